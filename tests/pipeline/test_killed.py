"""Killed at any moment, download, crop and training leave nothing that the next run does not put right."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from published_files import moved, stand_in
from standin import StandIn

# Runs a script and kills it at the n-th operation on a file of the project's data; 0: counts them.
KILLED = """
import os, runpy, signal, sys

wanted, seen = int(sys.argv[1]), 0
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}

def watch(event, arguments):
    global seen
    if event in OPERATIONS and any(str(a).startswith(("data/", "reports/")) for a in arguments[:2]):
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
sys.argv = sys.argv[2:]
sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
runpy.run_path(sys.argv[0], run_name="__main__")
print("operations:", seen)
"""
# What pipeline/download.py does for CelebA, with the stand-in's files.
CELEBA = """
import json, sys
from pathlib import Path
from dcgan.data.sources import celeba
from dcgan.data.fetching import File
from dcgan.system.files import atomic

with atomic(Path("data/raw")) as raw:
    celeba.prepare(Path("data/downloads"), raw, None, [File(*file) for file in json.loads(sys.argv[1])])
"""


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    folder = tmp_path / "dcgan"
    shutil.copytree(reproduced.folder, folder, ignore=shutil.ignore_patterns(".git", ".dvc", "checkpoints"))
    project = Project(folder)
    project.env["DCGAN_TRACKING"] = "0"
    return project


@pytest.fixture
def server() -> Iterator[StandIn]:
    server = StandIn({})
    yield server
    server.close()


def written(project: Project, outs: tuple[str, ...]) -> dict[str, bytes]:
    files = [path for out in outs for path in (project.folder / out, *(project.folder / out).rglob("*"))]
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in files if path.is_file()}


def kill(project: Project, moment: int, *script: str) -> None:
    result = project.run(sys.executable, "-c", KILLED, str(moment), *script)
    assert result.returncode == -signal.SIGKILL, result.stdout


def moments(project: Project, count: int, *script: str) -> list[int]:
    """Random moments of an undisturbed run."""
    result = project.run(sys.executable, "-c", KILLED, "0", *script)
    assert result.returncode == 0, result.stdout
    operations = int(result.stdout.rpartition("operations: ")[2])
    return random.Random(1).sample(range(1, operations + 1), min(count, operations))


def remove(project: Project, outs: tuple[str, ...]) -> None:
    """As DVC does before it runs a stage."""
    for out in outs:
        path = project.folder / out
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("script", "outs", "count"),
    [
        ("pipeline/crop.py", ("data/faces", "reports/data.json", "reports/real.png", "reports/mean.png"), 10),
        ("pipeline/download.py", ("data/raw",), 4),
    ],
)
def test_a_killed_stage_is_finished_by_the_next_run(
    project: Project, script: str, outs: tuple[str, ...], count: int
) -> None:
    expected = written(project, outs)
    for moment in moments(project, count, script):
        remove(project, outs)
        kill(project, moment, script)
        remove(project, outs)
        result = project.run(sys.executable, script)
        assert result.returncode == 0, result.stdout
        assert written(project, outs) == expected
        assert not list(project.folder.glob("*/.*.partial"))


def test_a_killed_fetch_of_celeba_is_finished_by_the_next_run(
    project: Project, server: StandIn, tmp_path: Path
) -> None:
    (project.folder / "celeba.py").write_text(CELEBA)
    files = json.dumps(moved(fetched(tmp_path), server))
    remove(project, ("data/raw",))
    places = moments(project, 10, "celeba.py", files)
    expected = written(project, ("data/raw",))
    for moment in places:
        remove(project, ("data/raw", "data/downloads"))
        kill(project, moment, "celeba.py", files)
        remove(project, ("data/raw",))
        assert project.run(sys.executable, "celeba.py", files).returncode == 0
        assert written(project, ("data/raw",)) == expected


def fetched(tmp_path: Path) -> Path:
    downloads = tmp_path / "published"
    stand_in(downloads)
    return downloads


# Trains, notes the steps that are saved, and is killed at the n-th operation on a checkpoint.
TRAINING = """
import os, re, runpy, signal, sys

wanted, seen = int(sys.argv[1]), 0

def watch(event, arguments):
    global seen
    places = [str(a) for a in arguments[:2]]
    if not any("/checkpoints/" in place for place in places):
        return
    if event == "os.rename" and (saved := re.search(r"/(\\d{8})-", places[1])):
        os.write(steps, f"{int(saved[1])}\\n".encode())
    if event in ("open", "os.rename", "os.remove"):
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

steps = os.open("steps.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(watch)
sys.argv = ["pipeline/train.py"]
sys.path.insert(0, os.path.abspath("pipeline"))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TRAINED = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv", "reports/progress")


def test_a_training_killed_twenty_times_ends_in_the_same_bytes_and_repeats_no_saved_step(project: Project) -> None:
    project.set(("epochs", "20"))
    project.env |= {"OMP_NUM_THREADS": "1", "DCGAN_CHECKPOINT_MINUTES": "0"}
    assert project.run(sys.executable, "pipeline/train.py").returncode == 0
    expected = written(project, TRAINED)
    shutil.rmtree(project.folder / "checkpoints")
    random_state = random.Random(1)
    for _ in range(20):
        remove(project, TRAINED)
        result = project.run(sys.executable, "-c", TRAINING, str(random_state.randint(4, 12)))
        assert result.returncode == -signal.SIGKILL, result.stdout
    remove(project, TRAINED)
    result = project.run(sys.executable, "-c", TRAINING, "0")
    assert result.returncode == 0, result.stdout
    assert written(project, TRAINED) == expected
    steps = [int(line) for line in (project.folder / "steps.txt").read_text().split()]
    assert set(steps) == set(range(1, 61)) and steps == sorted(steps)
    assert len(steps) <= 60 + 20
