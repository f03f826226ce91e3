"""What changes while a stage runs is never recorded: no outs, no entry in dvc.lock, one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
import yaml
from project import ROOT, Project, ran

from dcgan.system.files import remove

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STEP = "src/dcgan/training/step.py"


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    return reproduced.copied_to(tmp_path / "dcgan").warm()


def outs_of(stage: str) -> list[str]:
    named = [out for side in ("outs", "metrics", "plots") for out in STAGES[stage].get(side, [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in named]


def present(project: Project, stage: str) -> list[str]:
    return [out for out in outs_of(stage) if (project.folder / out).exists()]


def leftovers(project: Project) -> list[str]:
    return [path.name for path in project.folder.rglob(".?*.partial") if ".dvc" not in path.parts]


def change(project: Project, stage: str, kind: str) -> str:
    """Changes an input of the stage; returns what the stage is to say about it."""
    if kind == "parameter":
        project.set(("max_bad_fraction", "0.5"))
        return "params.yaml: max_bad_fraction changed from 0.001 to 0.5"
    deps: list[str] = STAGES[stage]["deps"]
    code = [dep for dep in deps if dep.startswith(("src/", "pipeline/"))]
    if kind == "module":
        path = project.folder / code[0]
        before = hashlib.md5(path.read_bytes()).hexdigest()[:8]
        path.write_text(path.read_text() + "# changed\n")
        return f"{code[0]} changed from MD5 {before} to MD5 "
    place = project.folder / next(dep for dep in deps if dep not in code)
    file = place if place.is_file() else next(path for path in sorted(place.rglob("*")) if path.is_file())
    os.utime(file, ns=(0, 0))
    return f"{file.relative_to(project.folder)} changed from {file.stat().st_size:,} bytes of "


CASES = [*((stage, "module") for stage in STAGES), ("crop", "parameter"), ("crop", "data"), ("sample", "data")]


@pytest.mark.parametrize(("stage", "kind"), CASES)
def test_a_stage_whose_input_changed_since_it_started_leaves_no_out(project: Project, stage: str, kind: str) -> None:
    for out in outs_of(stage):  # as DVC removes them before the command
        remove(project.folder / out)
    lock = next((project.folder / "checkpoints").glob("*.lock")) if stage == "train" else lock_of(project, stage)
    with filelock.FileLock(lock):  # the stage waits for it, after it has taken in what it depends on
        process = started(project, stage)
        said = ""
        while "waiting" not in said:
            line = process.stdout.readline() if process.stdout else ""
            assert line, said
            said += line
        changed = change(project, stage, kind)
    said += process.communicate()[0]
    assert process.returncode == 1 and "Traceback" not in said, said
    last = said.splitlines()[-1]
    assert changed in last and f"while the stage {stage} was running" in last and "`dvc repro" in last
    assert present(project, stage) == [] and leftovers(project) == []


def lock_of(project: Project, stage: str) -> Path:
    """The lock of a stage."""
    return project.folder / ".dvc" / "tmp" / f"dcgan-{stage}.lock"


def started(project: Project, stage: str) -> subprocess.Popen[str]:
    """A stage, as DVC starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", f"pipeline.{stage}"],
        cwd=project.folder,
        env=project.env | {"DVC_STAGE": stage, "DCGAN_TRACKING": "0"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def changed_while_training(project: Project, path: str, old: str, new: str) -> str:
    """What `dvc repro` says when a file is changed while the training takes its steps."""
    command = ["dvc", "repro"]
    env = project.env | {"DCGAN_LOG_INTERVAL": "1", "WARM_DVC": "1"}
    before = set(project.folder.glob("mlspool/own/*/metrics.jsonl"))
    with subprocess.Popen(
        command, cwd=project.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as dvc:
        while not set(project.folder.glob("mlspool/own/*/metrics.jsonl")) - before:
            assert dvc.poll() is None
            time.sleep(0.01)
        text = (project.folder / path).read_bytes()
        assert old.encode() in text
        (project.folder / path).write_bytes(text.replace(old.encode(), new.encode(), 1))
        said = dvc.communicate()[0]
    assert dvc.returncode != 0, said
    return said


def locked(project: Project) -> Any:
    return yaml.safe_load(project.read("dvc.lock"))["stages"].get("train")


def test_a_parameter_that_is_changed_during_a_training_is_not_recorded(project: Project) -> None:
    project.set(("epochs", "12"), ("lr", "0.002"))
    before = locked(project)
    said = changed_while_training(project, "params.yaml", "lr: 0.002", "lr: 0.003")
    assert said.count("WARNING: params.yaml: lr changed from 0.002 to 0.003 during the training") == 1
    assert "lr changed from 0.002 to 0.003 while the stage train was running, so that its result is discarded" in said
    assert present(project, "train") == [] and locked(project) == before
    command = re.search(r"or `(dvc exp run [^`]*)` for the one without it; the checkpoint", said)
    assert command
    result = project.run(*command[1].split(), "train")
    assert result.returncode == 0 and "training:" not in result.stdout, result.stdout  # from its checkpoint
    assert locked(project)["params"]["params.yaml"]["lr"] == 0.002
    assert json.loads(project.read("reports/lineage/train.json"))["params"]["lr"] == 0.002


def test_a_module_that_is_changed_during_a_training_is_not_recorded(project: Project) -> None:
    project.set(("epochs", "12"))
    before = locked(project)
    said = changed_while_training(project, STEP, '"""', '"""Changed. ')
    assert (
        f"WARNING: {STEP} changed from MD5 " in said and f"run `git checkout HEAD -- {STEP} && dvc repro`" not in said
    )
    assert f"`git checkout HEAD -- {STEP} && dvc repro` for the one without it" in said
    assert present(project, "train") == [] and locked(project) == before
    project.run("git", "checkout", "HEAD", "--", STEP, check=True)
    result = project.run("dvc", "repro", "train")
    assert result.returncode == 0 and "training:" not in result.stdout, result.stdout


def test_data_that_are_changed_during_a_training_are_not_recorded(project: Project) -> None:
    project.set(("epochs", "12"))
    before = locked(project)
    faces = project.folder / "data" / "faces" / "faces.npy"
    faces.chmod(0o644)
    said = changed_while_training(project, "data/faces/faces.npy", "descr", "DESCR")
    assert "data/faces/faces.npy changed from" in said and "run `dvc repro`, which makes it again" in said
    assert present(project, "train") == [] and locked(project) == before
    result = project.run("dvc", "repro", "train")
    assert result.returncode == 0 and "training:" not in result.stdout and "train" in ran(result.stdout), result.stdout


def test_an_entry_of_the_lock_that_says_otherwise_is_refused(project: Project) -> None:
    """As left by a change between the end of a stage and DVC's reading of its inputs."""
    check = ("python", "-m", "dcgan", "check")
    assert project.run(*check).returncode == 0
    project.set(("lr", "0.0005"))
    text = (project.folder / "dvc.lock").read_text()
    changed = re.sub(r"(?s)(\n  train:.*?lr: )0\.001", r"\g<1>0.0005", text, count=1)
    assert changed != text
    (project.folder / "dvc.lock").write_text(changed)
    project.set(("fid_repeats", "1"))
    said = "dvc.lock: the outs of train were made with lr 0.001, but it is recorded as 0.0005"
    for command in (check, ("dvc", "repro")):
        result = project.run(*command)
        assert result.returncode != 0 and said in result.stdout, result.stdout
    assert present(project, "evaluate") == []
    for words in (["dvc", "repro", "--force", "--single-item", "train"], ["dvc", "repro", "sample"], [*check]):
        result = project.run(*words)
        assert result.returncode == 0, result.stdout
    assert json.loads(project.read("reports/lineage/train.json"))["params"]["lr"] == 0.0005


def test_a_missing_folder_of_the_project_is_named_with_the_command_that_restores_it(project: Project) -> None:
    check = ("python", "-m", "dcgan", "check")
    shutil.rmtree(project.folder / "data")
    result = project.run(*check)
    assert result.returncode == 1 and "Traceback" not in result.stdout
    said = "data/folder: there is no such file or folder, and the stage inventory needs it; restore it with "
    (line,) = (line for line in result.stdout.splitlines() if line.startswith(said))
    project.run("sh", "-c", line.split("`")[1], check=True)
    result = project.run(*check)
    assert result.returncode == 0, result.stdout


def test_a_stage_without_its_inputs_says_what_makes_them(project: Project) -> None:
    (project.folder / "models" / "generator.safetensors").unlink()
    result = project.run(sys.executable, "-m", "pipeline.sample")
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert "models/generator.safetensors: there is no such file" in result.stdout
    assert "`dvc repro sample`" in result.stdout


def test_ctrl_c_during_the_imports_is_no_traceback(project: Project, tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), project.env["PYTHONPATH"]])
    result = project.run(sys.executable, "-m", "pipeline.weights", PYTHONPATH=path, WARM_PYTHON="")
    assert (result.returncode, result.stdout) == (130, "")


def test_a_stage_waits_for_the_one_that_a_killed_dvc_left_running(project: Project) -> None:
    with filelock.FileLock(lock_of(project, "weights")):
        second = started(project, "weights")
        assert second.stdout
        assert "another process is running the stage weights; waiting" in second.stdout.readline()
        shutil.rmtree(project.folder / "data" / "weights")
    assert second.communicate()[0] == "" and second.returncode == 0
    assert (project.folder / "data" / "weights").is_dir()
