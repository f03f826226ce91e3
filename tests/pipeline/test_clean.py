"""`dcgan clean` in a project with small stages, real DVC, and real git."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch
from project import Project, runs

from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, Description, spool_of
from dcgan.training.checkpoint import CheckpointStore

STAGE = """
stages:
  train:
    cmd:
      - echo ran >> ../ran && cp params.yaml models/generator.safetensors
      - grep ^lr params.yaml > reports/metrics.json
    params: [lr]
    outs: [models/generator.safetensors]
    metrics: [{reports/metrics.json: {cache: false}}]
"""


def clean(project: Project, *words: str) -> str:
    result = project.run(sys.executable, "-m", "dcgan", "clean", *words)
    assert result.returncode == 0, result.stdout
    return result.stdout


def lines(output: str) -> dict[str, tuple[str, str]]:
    """What is listed: by place, whether it is removed or kept, and the rest of the line."""
    found, part = {}, ""
    for line in output.splitlines():
        part = "kept" if line.startswith("Kept") else "removed" if line.startswith("Nothing refers") else part
        if line.startswith("  "):
            place, _, rest = line.strip().partition(" ")
            found[place] = part, rest.strip()
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose committed result has lr 0.1; 0.2 was computed and not committed, 0.3 is in git's stash."""
    project = Project.create(tmp_path_factory.mktemp("clean") / "dcgan").warm()
    (project.folder / "dvc.yaml").write_text(STAGE)
    for lr in ("0.1", "0.2", "0.3"):
        project.set(("lr", lr))
        assert project.run("dvc", "repro").returncode == 0
        if lr == "0.1":
            project.run("git", "add", "-A", check=True)
            project.run("git", "commit", "-q", "-m", "result", check=True)
    project.run("git", "stash", check=True)
    return project


def results(project: Project) -> set[str]:
    """The learning rates whose results are in the cache; each result is a copy of params.yaml."""
    objects = (project.folder / ".dvc" / "cache" / "files").rglob("*")
    return {lr for path in objects if path.is_file() for lr in re.findall(r"(?m)^lr: (\S+)", path.read_text())}


def training(project: Project, letter: str, lr: str) -> None:
    """An interrupted training, as far as it matters here: its checkpoint, and its run, which no store has got yet."""
    store = CheckpointStore(project.folder / "checkpoints", letter * 32)
    with store.locked():
        store.save(7, {"history": torch.zeros(7, 6)})
    with Run(spool_of(project.folder), Description({FINGERPRINT: letter * 32}, "run", {"lr": lr})).open():
        pass


def test_nothing_is_removed_while_dvc_works_or_where_others_may_need_it(project: Project, tmp_path: Path) -> None:
    assert "There is nothing to remove." in clean(project)  # all is younger than 30 days
    copy = project.folder / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    (copy / ".dvc" / "tmp").mkdir(parents=True)
    rwlock = copy / ".dvc" / "tmp" / "rwlock"
    partial = project.folder / "models" / ".generator.safetensors.partial"
    partial.write_bytes(b"half")

    rwlock.write_text(json.dumps({"write": {"out": {"pid": os.getpid(), "cmd": "dvc exp run --temp"}}, "read": {}}))
    with filelock.FileLock(project.folder / ".dvc" / "tmp" / "dcgan-crop.lock"):  # a stage that a killed DVC has left
        listed = lines(clean(project, "--older-than", "0", "--remove"))
    assert set(listed) == {".dvc/cache"} and "DVC or a stage is running" in listed[".dvc/cache"][1]
    assert copy.exists() and partial.exists() and results(project) == {"0.1", "0.2", "0.3"}

    dead = subprocess.Popen(["true"])
    dead.wait()
    rwlock.write_text(json.dumps({"write": {"out": {"pid": dead.pid, "cmd": "dvc exp run --temp"}}, "read": {}}))
    shared = tmp_path / "cache"
    (project.folder / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {shared}\n")
    listed = lines(clean(project, "--older-than", "0", "--remove"))
    (project.folder / ".dvc" / "config.local").unlink()
    assert {place: what for place, (what, _) in listed.items()} == {
        ".dvc/tmp/exps": "removed", "*.partial": "removed", str(shared): "kept"
    }  # fmt: skip
    assert "other projects may use it" in listed[str(shared)][1] and not copy.exists() and not partial.exists()


def test_what_is_referred_to_stays_and_can_be_restored(project: Project) -> None:
    project.run("dvc", "exp", "run", "--queue", "--name", "later", "-S", "lr=0.4", check=True)
    for letter, lr in (("a", "0.1"), ("b", "0.4"), ("c", "0.5")):
        training(project, letter, lr)
    listed = project.run(
        sys.executable, "-m", "dcgan", "clean", "--older-than", "0", MLFLOW_TRACKING_URI="http://127.0.0.1:1"
    ).stdout
    assert "checkpoints: all are kept, since their settings are not known: MLflow cannot be reached" in listed
    assert {what for place, (what, _) in lines(listed).items() if place.startswith("checkpoints")} == {"kept"}

    output = clean(project, "--older-than", "0", "--remove")
    said = {place: (what, rest.split("  ")[-1]) for place, (what, rest) in lines(output).items()}
    result = "results that no commit, branch, tag or experiment refers to, nor the workspace"
    assert said[".dvc/cache"] == ("removed", result)
    interrupted = "interrupted after step 7, 0 days ago"
    for letter, what, why in (
        ("a", "kept", "params.yaml has its settings"),
        ("b", "kept", "the experiment later in DVC's queue has its settings"),
        ("c", "removed", "`dvc exp run -S lr=0.5` resumes it"),
    ):
        assert said[f"checkpoints/{letter * 32}"] == (what, f"{interrupted}; {why}")
        assert (project.folder / "checkpoints" / (letter * 32)).exists() == (what == "kept")
    assert said["mlspool/own"][0] == "kept" and "`dcgan sync`" in said["mlspool/own"][1]
    assert re.search(r"Removed [\d.]+ kB\.", output) and results(project) == {"0.1", "0.3"}

    ran = (project.folder.parent / "ran").read_text()
    for name in ("reports/metrics.json", "models/generator.safetensors", "dvc.lock"):
        (project.folder / name).unlink()
    assert project.run("dvc", "repro").returncode == 0  # the metrics too come from the cache
    assert (project.folder.parent / "ran").read_text() == ran
    project.run("git", "stash", "pop", check=True)
    assert project.run("dvc", "checkout").returncode == 0
    lock = project.read("dvc.lock").decode()
    assert hashlib.md5(project.read("models/generator.safetensors")).hexdigest() in lock
    project.set(("lr", "0.2"))
    assert project.run("dvc", "repro").returncode == 0  # computed again
    assert (project.folder.parent / "ran").read_text() == ran + "ran\n"


def test_the_list_of_a_linked_folder_goes_when_nothing_names_it(project: Project) -> None:
    lists, link = project.folder / "data" / "links", project.folder / "data" / "link.json"
    lists.mkdir(exist_ok=True)
    for name in "abc":
        link.write_text(json.dumps({"folder": "/own", "pictures": 1, "files": 1, "sha256": name * 64}))
        (lists / f"{name * 64}.parquet").write_bytes(b"a list")
        if name == "a":
            project.run("dvc", "exp", "run", "--queue", "--name", "linked", "-S", "lr=0.6", check=True)
    assert "data/links" not in lines(clean(project))
    assert lines(clean(project, "--older-than", "0", "--remove"))["data/links"][0] == "removed"
    assert {path.stem[0] for path in lists.iterdir()} == {"a", "c"}


def test_a_wrong_option_is_one_sentence(project: Project) -> None:
    for words, sentence in (
        (("--older-than", "-1"), "--older-than: -1 is not allowed; give a number of days of at least 0."),
        (("--give-up", "nowhere"), "--give-up: no runs wait in mlspool/nowhere"),
    ):
        result = project.run(sys.executable, "-m", "dcgan", "clean", *words)
        assert result.returncode == 1 and result.stdout.startswith(sentence) and result.stdout.count("\n") == 1


@pytest.mark.long
def test_the_command_that_is_given_resumes_an_interrupted_experiment(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan").warm()
    shutil.rmtree(project.folder / "checkpoints")
    command = ["dvc", "exp", "run", "--temp", "-S", "epochs=8", "-S", "lr=1e-5"]
    started = subprocess.Popen(
        command, cwd=project.folder, env=project.env | {"DCGAN_CHECKPOINT_MINUTES": "0"}, start_new_session=True
    )
    while not list((project.folder / "checkpoints").glob("*/[0-9]*.safetensors")):
        assert started.poll() is None
        time.sleep(0.01)  # polls; the outcome does not depend on how long it takes
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    listed = lines(clean(project, "--older-than", "0"))
    ((place, why),) = ((place, why) for place, (_, why) in listed.items() if "resumes" in why)
    assert listed[".dvc/tmp/exps"][0] == "removed"
    (resume,) = re.findall("`(.*)`", why)
    assert resume == "dvc exp run -S epochs=8 -S lr=1e-05"
    first = project.folder / place / "epoch_00000.png"
    before = first.stat().st_mtime_ns
    result = project.run(*resume.split(), "train")
    assert result.returncode == 0, result.stdout
    assert first.stat().st_mtime_ns == before  # a training that starts over writes this picture again
    assert [run.info.status for run in runs(project)] == ["FINISHED", "FINISHED"]
