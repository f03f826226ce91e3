"""Killed at any moment, download, crop and training leave nothing that the next run does not put right."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Ended, Forks, forks
from project import Project
from published_files import moved, stand_in
from standin import StandIn

pytestmark = pytest.mark.long
WRITTEN = "^(data|reports)/"  # where a stage writes
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


@pytest.fixture
def scripts(project: Project) -> Iterator[Forks]:
    names = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")
    with forks(project, *names) as scripts:
        yield scripts


def kill(scripts: Forks, moment: int, *script: str) -> None:
    ended = scripts.run(*script, places=WRITTEN, moment=moment)
    assert ended.status == -signal.SIGKILL, ended.output


def finish(scripts: Forks, *script: str) -> int:
    """Runs a script to its end, in so many operations."""
    ended = scripts.run(*script, places=WRITTEN)
    assert ended.status == 0, ended.output
    return ended.operations


def moments(scripts: Forks, count: int, *script: str) -> list[int]:
    """Random moments of an undisturbed run."""
    operations = finish(scripts, *script)
    return random.Random(1).sample(range(1, operations + 1), min(count, operations))


def remove(project: Project, outs: tuple[str, ...]) -> None:
    """As DVC does before it runs a stage."""
    for out in outs:
        path = project.folder / out
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("script", "outs", "count"),
    [
        ("pipeline.crop", ("data/faces", "reports/data.json", "reports/real.png", "reports/mean.png"), 10),
        ("pipeline.download", ("data/raw",), 3),
    ],
)
def test_a_killed_stage_is_finished_by_the_next_run(
    project: Project, scripts: Forks, script: str, outs: tuple[str, ...], count: int
) -> None:
    if script == "pipeline.download":
        project.set(("dataset_size", "30"))  # as many as one process draws at a time; it imports all anew
    remove(project, outs)
    places = moments(scripts, count, script)
    expected = written(project, outs)
    for moment in places:
        remove(project, outs)
        kill(scripts, moment, script)
        remove(project, outs)
        finish(scripts, script)
        assert written(project, outs) == expected
        assert not list(project.folder.glob("*/.*.partial"))


def test_a_killed_fetch_of_celeba_is_finished_by_the_next_run(
    project: Project, scripts: Forks, server: StandIn, tmp_path: Path
) -> None:
    (project.folder / "celeba.py").write_text(CELEBA)
    files = json.dumps(moved(fetched(tmp_path), server))
    remove(project, ("data/raw",))
    places = moments(scripts, 10, "celeba.py", files)
    expected = written(project, ("data/raw",))
    for moment in places:
        remove(project, ("data/raw", "data/downloads"))
        kill(scripts, moment, "celeba.py", files)
        remove(project, ("data/raw",))
        finish(scripts, "celeba.py", files)
        assert written(project, ("data/raw",)) == expected


def fetched(tmp_path: Path) -> Path:
    downloads = tmp_path / "published"
    stand_in(downloads)
    return downloads


TRAINED = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv", "reports/progress")


def test_a_training_killed_twenty_times_ends_in_the_same_bytes_and_repeats_no_saved_step(project: Project) -> None:
    project.set(("epochs", "20"))
    project.env |= {"OMP_NUM_THREADS": "1", "DCGAN_CHECKPOINT_MINUTES": "0"}
    assert project.run(sys.executable, "-m", "pipeline.train").returncode == 0
    expected = written(project, TRAINED)
    shutil.rmtree(project.folder / "checkpoints")
    random_state = random.Random(1)
    with forks(project, "open", "os.rename", "os.remove") as scripts:

        def train(moment: int) -> Ended:
            remove(project, TRAINED)
            return scripts.run("pipeline.train", places="/checkpoints/", moment=moment)

        for _ in range(20):
            ended = train(random_state.randint(4, 12))
            assert ended.status == -signal.SIGKILL, ended.output
        ended = train(0)
        assert ended.status == 0, ended.output
        saved = [re.search(r"/(\d{8})-[^/]+$", name) for name in scripts.renamed_to()]
    assert written(project, TRAINED) == expected
    steps = [int(step[1]) for step in saved if step]
    assert set(steps) == set(range(1, 61)) and steps == sorted(steps)
    assert len(steps) <= 60 + 20
