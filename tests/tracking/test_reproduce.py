"""From a run to the commands that rebuild it, and from a result to its runs; in a small DVC project of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from user import as_a_user

from dcgan.data import links
from dcgan.system.errors import UserError
from dcgan.system.files import sha256
from dcgan.system.project_files import GENERATOR, LINKS, METRICS
from dcgan.tracking import reproduce
from dcgan.tracking.connection import connect
from dcgan.tracking.repository import commit, git, uncommitted

MAKE = """
import json, pathlib
text = pathlib.Path("params.yaml").read_text() + pathlib.Path("code.py").read_text()
metrics = json.dumps({"frechet_distance": len(text), "samples": 2000})
for name, content in (("models/generator.safetensors", text), ("reports/metrics.json", metrics)):
    pathlib.Path(name).parent.mkdir(exist_ok=True)
    pathlib.Path(name).write_text(content)
"""
PIPELINE = """
stages:
  train:
    cmd: python make.py
    deps: [params.yaml, code.py, make.py]
    outs: [models/generator.safetensors]
    metrics: [{reports/metrics.json: {cache: false}}]
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one commit, whose result is there."""
    folder = tmp_path_factory.mktemp("template") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        as_a_user(patch)
        files = {"params.yaml": "lr: 1\n", "code.py": "x = 1\n", "make.py": MAKE, "dvc.yaml": PIPELINE}
        for name, content in files.items():
            (folder / name).write_text(content)
        (folder / ".gitignore").write_text("/mlflow*\n/mlartifacts\n/models\n")
        git(folder, "init", "-q", "-b", "main")
        subprocess.run(["dvc", "init", "-q"], cwd=folder, check=True)
        repro(folder)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "project")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()  # an empty store, whose making takes seconds
    return folder


@pytest.fixture
def root(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project."""
    as_a_user(monkeypatch)
    shutil.copytree(template, tmp_path / "project")
    return tmp_path / "project"


def repro(folder: Path) -> None:
    subprocess.run(["dvc", "repro", "-q"], cwd=folder, check=True)


def a_run(root: Path, metric: str = "distance/frechet_distance", /, **changed: str | None) -> str:
    """A run of the present result; what is changed to None is absent."""
    client, experiment = connect(root)
    tags: dict[str, Any] = {"git_commit": commit(root), "git_dirty": "false", "threads": "1", "device": "cpu"}
    tags["generator_sha256"] = sha256(root / GENERATOR)
    tags = {name: value for name, value in (tags | changed).items() if value is not None}
    run = client.create_run(experiment, tags=tags)
    distance = json.loads((root / METRICS).read_text())["frechet_distance"]
    client.log_batch(run.info.run_id, metrics=[Metric(metric, distance, 0, 0)])
    return str(run.info.run_id)


def log_patch(root: Path, run: str, patch: bytes) -> None:
    path = root / ".dvc" / "tmp" / f"uncommitted-{commit(root)[:12]}.patch"
    path.write_bytes(patch)
    MlflowClient().log_artifact(run, str(path), "lineage")


def test_outside_of_git_there_is_no_difference_to_tell(tmp_path: Path) -> None:
    assert uncommitted(tmp_path, ("params.yaml",)) is None and commit(tmp_path) == ""


def test_a_store_that_cannot_be_asked_is_told_in_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter22@127.0.0.1:9")
    for ask in (lambda: reproduce.plan(root, "0" * 32), lambda: reproduce.runs_of(root, "HEAD")):
        with pytest.raises(UserError, match="MLflow cannot be reached") as error:
            ask()
        assert "hunter22" not in str(error.value)


def test_a_run_is_rebuilt_in_a_worktree_of_its_own(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(root)
    (root / "params.yaml").write_text("lr: 2\n")
    plan = reproduce.plan(root, run)
    assert plan.folder == root.parent / f"project-{run[:8]}"
    assert plan.commands() == [
        f"git worktree add --detach {plan.folder} {commit(root)}",
        f"cd {plan.folder} && DCGAN_TRACKING=0 OMP_NUM_THREADS=1 dvc repro --force",
    ]
    reproduce.go(plan)
    assert (plan.folder / "params.yaml").read_text() == "lr: 1\n" and (root / "params.yaml").read_text() == "lr: 2\n"
    out = capsys.readouterr().out
    assert "generator.safetensors: the same bytes" in out and "the same frechet_distance" in out


def test_an_evaluation_of_its_own_is_rebuilt_as_its_training_was_run(root: Path) -> None:
    trained = a_run(root, threads="3")
    run = a_run(root, threads=None, device=None, trained_in=trained)
    assert "OMP_NUM_THREADS=3" in reproduce.plan(root, run).commands()[-1]


def test_a_distance_by_other_settings_is_not_compared(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(root, "frechet_distance")  # of a version without groups
    MlflowClient().log_metric(run, "frechet_distance", 1.0)
    with pytest.raises(UserError, match="but the run's is 1"):
        reproduce.go(reproduce.plan(root, run, root.parent / "same settings"))
    MlflowClient().log_param(run, "fid_samples", "50000")
    reproduce.go(reproduce.plan(root, run))
    assert "evaluated with a different fid_samples" in capsys.readouterr().out


def test_files_that_are_neither_in_git_nor_made_by_a_stage_come_along(root: Path) -> None:
    for name in ("downloads", "folder"):
        (root / "data" / name / "deeper").mkdir(parents=True)
        (root / "data" / name / "README.md").write_text("what belongs here")
    git(root, "add", "data")
    git(root, "commit", "-q", "-m", "the user's files")
    assert reproduce.plan(root, a_run(root)).lent == []
    for name in ("downloads", "folder"):
        (root / "data" / name / "deeper" / "file").write_text(name)
        (root / "data" / name / "a link to a file").symlink_to("deeper/file")
        (root / "data" / name / "to a folder").symlink_to("deeper")
        (root / "data" / name / "to nothing").symlink_to("nothing")
    plan = reproduce.plan(root, a_run(root))
    reproduce.go(plan)
    by_hand = reproduce.plan(root, plan.run.info.run_id, root.parent / "by hand")
    subprocess.run(["bash", "-c", "set -e\n" + "\n".join(by_hand.commands())], cwd=root, check=True)
    for folder in (plan.folder, by_hand.folder):
        for name in ("downloads", "folder"):
            there = {path.name for path in (folder / "data" / name).rglob("*")}
            assert there == {"README.md", "deeper", "file", "a link to a file"}
            for file in ("deeper/file", "a link to a file"):
                assert (folder / "data" / name / file).read_text() == name


LOOK = """
from pathlib import Path
from dcgan.data import links
assert links.look_over(Path(), Path())
"""


def test_a_linked_folder_is_read_where_it_is(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = root.parent / "own"
    own.mkdir()
    (own / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "data").mkdir()
    links.link(root, own)
    (root / "look.py").write_text(LOOK)
    (root / "dvc.yaml").write_text(f"{PIPELINE}  look:\n    cmd: python look.py\n    deps: [data/link.json]\n")
    git(root, "add", "data/link.json", "look.py", "dvc.yaml")
    git(root, "commit", "-q", "-m", "a linked folder")
    plan = reproduce.plan(root, a_run(root))
    assert plan.lent == [LINKS]
    shutil.rmtree(root / LINKS)  # as `dcgan clean` does in the end
    reproduce.go(plan)
    links.link(root, None)
    (own / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n another")
    with pytest.raises(UserError, match="its error is above"):
        reproduce.go(reproduce.plan(root, plan.run.info.run_id, root.parent / "changed"))
    assert "own: the folder has changed since it was linked (1 file modified: a.png)" in capfd.readouterr().err


def test_what_differed_later_than_a_clean_run_is_not_applied(root: Path) -> None:
    run = a_run(root)
    log_patch(root, run, b"a later stage's")
    assert not reproduce.plan(root, run).patched


def test_what_differed_from_the_commit_is_rebuilt_too(root: Path) -> None:
    (root / "params.yaml").write_text("lr: 3\n")
    (root / "new.py").write_bytes(b"new = True  # caf\xe9\r\n")  # neither UTF-8 nor a line's usual end
    (root / ".env").write_text("SECRET=1\n")
    for setting in (("color.ui", "always"), ("diff.noprefix", "true"), ("diff.external", "false")):
        git(root, "config", *setting)
    repro(root)
    run = a_run(root, git_dirty="true")
    patch = uncommitted(root, ("params.yaml", "new.py", ".env", "absent"))
    assert patch is not None and b"+lr: 3" in patch and b"+new = True" in patch
    assert b"SECRET" not in patch
    assert git(root, "status", "--porcelain", "new.py").stdout.startswith("??")  # the index is the user's
    log_patch(root, run, patch)
    git(root, "checkout", "-q", "params.yaml")
    plan = reproduce.plan(root, run, root.parent / "another folder")
    assert len(plan.commands()) == 4
    reproduce.go(plan)
    assert (plan.folder / "new.py").read_bytes() == (root / "new.py").read_bytes()


def test_the_commands_that_are_printed_do_what_go_does(root: Path, tmp_path: Path) -> None:
    (root / "params.yaml").write_text("lr: 3\n")
    repro(root)
    run = a_run(root, git_dirty="true")
    log_patch(root, run, uncommitted(root, ("params.yaml",)) or b"")
    git(root, "checkout", "-q", "params.yaml")
    plan = reproduce.plan(root, run, tmp_path / "another folder")
    script = f"export MLFLOW_TRACKING_URI=sqlite:///{root}/mlflow.db; set -e\n" + "\n".join(plan.commands())
    subprocess.run(["bash", "-c", script], cwd=root, check=True)
    reproduce.compare(plan)


def test_another_result_is_told_with_the_machine_that_made_the_run(root: Path) -> None:
    run = a_run(root, generator_sha256="0" * 64, processor="Some CPU")
    with pytest.raises(UserError, match=r"SHA-256 .*0000; .*Some CPU, "):
        reproduce.go(reproduce.plan(root, run))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"generator_sha256": None}, "did not finish"),
        ({"git_commit": None}, "has no git commit"),
        ({"git_commit": "1" * 40}, "is not in this repository"),
        ({"git_dirty": "true"}, "the patch is missing"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(root: Path, changed: dict[str, str | None], sentence: str) -> None:
    run = a_run(root, **changed)
    with pytest.raises(UserError, match=sentence) as error:
        reproduce.plan(root, run)
    assert run in str(error.value)


def test_a_run_that_is_not_there_and_a_folder_that_is_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"no such run; .* MLFLOW_TRACKING_URI"):
        reproduce.plan(root, "0123456789abcdef0123456789abcdef")
    with pytest.raises(UserError, match="already exists"):
        reproduce.plan(root, a_run(root), root)


def test_a_result_leads_to_its_runs(root: Path) -> None:
    lock = (root / "dvc.lock").read_text()
    md5 = lock.split("models/generator.safetensors")[1].split("md5: ")[1].split("\n")[0]
    run = a_run(root, generator_md5=md5)
    git(root, "tag", "v1")
    git(root, "update-ref", "refs/exps/ab/cdef/odd-name", "HEAD")
    for what in (str(root / GENERATOR), "HEAD", "v1", "odd-name"):
        assert [found.info.run_id for found in reproduce.runs_of(root, what)] == [run], what
    with pytest.raises(UserError, match="give a file, a DVC experiment, or a git revision"):
        reproduce.runs_of(root, "nothing")
    with pytest.raises(UserError, match="has no run of this generator"):
        reproduce.runs_of(root, str(root / "code.py"))
