"""What tests share: a handful of drawn faces, and a small project to run the real tools in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
import torch
from drawn_inception import draw_weights
from project import ROOT, Project, project_digest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

FACES_DRAWN = 240
# Threads that wait for each other are slower than one where the cores are busy; stages inherit it.
os.environ["OMP_NUM_THREADS"] = "1"


# What takes longest, first, so that no worker begins with it when the other ends; and while one worker makes the
# reproduced project, the other has work that does without it.
FIRST = (
    "test_experiment.py test_queue.py test_folders.py test_metrics.py test_training.py test_ranks.py test_repro.py "
    "test_resume.py test_killed.py"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As fast on few pictures, and not slowed down by whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # numpy's
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def committed_run() -> None:
    """For tests of the run that is committed: skipped where the user has computed another one."""
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=ROOT, check=False)
    if changed.returncode == 1:
        pytest.skip("params.yaml is not the committed one; `git checkout params.yaml dvc.lock reports` brings it back")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of this session of tests, which all its workers share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker makes and all of them share; nobody may change it."""
    with filelock.FileLock(folder.with_suffix(".lock")):
        done = folder.with_suffix(".done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def raw(shared: Path) -> Path:
    """data/raw with FACES_DRAWN avatars, as the download leaves it."""
    from dcgan.data.sources import avatars

    return made_once(shared / "raw", lambda folder: avatars.prepare(folder, FACES_DRAWN, seed=1))


@pytest.fixture(scope="session")
def faces(raw: Path, shared: Path) -> Path:
    """data/faces of those avatars at 64x64, as the crop leaves it."""
    from dcgan.data import packing

    return made_once(shared / "faces", lambda folder: packing.pack(raw, folder, None, 64, 3, 0.0))


@pytest.fixture(scope="session")
def empty_store(shared: Path) -> bytes:
    """MLflow's database as its first use leaves it, since making one takes seconds."""
    from mlflow import MlflowClient

    def make(folder: Path) -> None:
        folder.mkdir()
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return (made_once(shared / "store", make) / "mlflow.db").read_bytes()


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn, in pytorch-fid's format: where torch.hub, with this TORCH_HOME, looks for the published ones."""
    from dcgan.metrics import weights

    path = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / weights.INCEPTION.name
    draw_weights(path)
    return path


@pytest.fixture(autouse=True)
def own_tracking_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes to a store that the developer's shell names."""
    # Set before it is deleted, so that what MLflow itself sets is taken back after the test.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session")
def reproduced(shared: Path) -> Project:
    """A small project after its first `dvc repro`, committed. Tests that change it start from a copy.

    It is kept, beside pytest's own folders, for the next session of tests of the same files.
    """

    def make(folder: Path) -> None:
        made = sorted(folder.parent.glob("reproduced-*.done"), key=lambda path: path.stat().st_mtime)
        for old in made[:-2]:  # another session of tests may use the newest
            shutil.rmtree(old.with_suffix(""), ignore_errors=True)
            old.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # of a session that was interrupted
        project = Project.create(folder)
        # As far as the training as a user runs it; the processes of the other stages are forks.
        for target in (["train"], []):
            result = project.run("dvc", "repro", *target)
            assert result.returncode == 0 and "UserWarning" not in result.stdout, result.stdout
            project.warm()
        project.run("git", "add", "-A", check=True)
        project.run("git", "commit", "-q", "-m", "reproduced", check=True)

    return Project(made_once(shared.parent / f"reproduced-{project_digest()}", make))
