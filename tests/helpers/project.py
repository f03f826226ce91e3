"""A small copy of this project, to run the real tools in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
from mlflow.entities import Run
from warm import warm

from dcgan.params import load_preset, write_preset

ROOT = Path(__file__).resolve().parents[2]


def project_files() -> list[str]:
    """The files of this project that git would commit now, but for the tests."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return sorted(name for name in names if not name.startswith("tests/") and (ROOT / name).is_file())


def project_digest() -> str:
    """A hash of all that decides what a small project computes: those files, how small it is, Python and its path."""
    sha = hashlib.sha256(f"{Project.SMALL} {sys.version} {_others_on_the_path()}".encode())
    for name in project_files():
        sha.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return sha.hexdigest()[:16]


def other_system(python_path: str) -> str:
    """A PYTHONPATH like this one, with which Python lacks what only Linux and glibc have."""
    return os.pathsep.join([python_path, str(Path(__file__).parent / "other_system")])


def _others_on_the_path() -> list[str]:
    """What the tests' own PYTHONPATH has beside this project, as `other_system`."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path) != ROOT / "src"]


class Project:
    """A copy of this project as a git repository of its own, with settings small enough for a test."""

    SMALL = (
        ("dataset_size", "60"), ("ngf", "8"), ("ndf", "8"), ("epochs", "2"), ("fid_samples", "32"),
        ("fid_repeats", "2"),
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_", "DCGAN_", "MAKE"))}
        self.env |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(folder / "src"), *_others_on_the_path()]),
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.com",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.com",
        }

    @classmethod
    def create(cls, folder: Path, small: bool = True) -> Project:
        """Copies what git would commit now, as a test is to see it; `small` is the preset quick and less."""
        for name in project_files():
            if not (small and name in ("dvc.lock", "reports/metrics.json")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())
        project = cls(folder)
        if small:
            write_preset(folder / "params.yaml", load_preset(ROOT / "presets", "quick"))
            project.set(*cls.SMALL)
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "project"]):
            project.run("git", *words, check=True)
        return project

    def warm(self) -> Project:
        """The project, its Python processes from now on forks of one that has imported the large libraries."""
        self.env = warm(self.env)
        return self

    def copied_to(self, folder: Path) -> Project:
        """A copy, cache, runs and checkpoints included; its runs have files of their own, not the original's."""
        shutil.copytree(self.folder, folder)
        with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
            places = (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
            )
            for table, column in places:
                moved = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
                store.execute(moved, (str(self.folder), str(folder)))
        return Project(folder)

    def set(self, *values: tuple[str, str]) -> None:
        """Writes values into params.yaml, as an editor would."""
        path = self.folder / "params.yaml"
        text = path.read_text()
        for key, value in values:
            text, count = re.subn(rf"(?m)^{key}:[^#\n]*", f"{key}: {value} ", text)
            assert count == 1, key
        path.write_text(text)

    def run(self, *command: str, check: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project; its output is in `stdout`, what it says of errors too."""
        # DVC is warm here alone: where a test kills it, it has to be the process that it seems to be.
        env = {"WARM_DVC": "1"} | env if "WARM_PYTHON" in self.env else env
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.env | env,
            check=check,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` or `dvc exp run` says it has run."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def runs(project: Project) -> list[Run]:
    """The project's runs in its own store, which MLflow asks from now on; the oldest first."""
    mlflow.set_tracking_uri(f"sqlite:///{project.folder / 'mlflow.db'}")
    found: list[Run] = mlflow.search_runs(experiment_names=["dcgan"], output_format="list", order_by=["start_time"])
    return found
