"""The form of what an MLflow run should hold: a folder that one process writes and a sender reads.

The writer holds a lock beside the folder while it lives. Nothing here talks to MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from dcgan.tracking.private import without_login

SPOOL = "mlspool"  # the folder under the project's root; it holds one for each store, and that one for each run
# In the folder of a run.
DESCRIPTION = "run.json"  # a Description
METRICS = "metrics.jsonl"  # points of the curves, a line each
LOAD = "load.jsonl"  # the machine's load, likewise; written by the sender itself
GRIDS = "grids"  # the fixed latents' pictures, named by step
ARTIFACTS = "artifacts"  # files
FIRST = "first"  # files, of which the run keeps those that it was given first
MODEL = "generator.safetensors"  # logged as MLflow models

FINGERPRINT, GENERATOR_SHA256, EVALUATION = "fingerprint", "generator_sha256", "evaluation"
TRAINED_IN = "trained_in"  # the tag of an evaluation's run: the id of the training's
Point = tuple[int, int, dict[str, float]]  # milliseconds since 1970, step, values


@dataclass(frozen=True)
class Description:
    """All that a run holds beside its files and curves.

    A run that MLflow has already keeps its own name, parameters, start and `opened_with`.
    """

    # Tags by which the run is found, and which depend on its inputs alone: FINGERPRINT of a training, or
    # GENERATOR_SHA256 of what came of it, with EVALUATION where a second evaluation of it is a run of its own.
    identity: dict[str, str]
    name: str
    params: dict[str, str]  # of the training
    settings: dict[str, str] = field(default_factory=dict)  # of the evaluation: parameters too
    opened_with: dict[str, str] = field(default_factory=dict)  # tags
    started: int = field(default_factory=lambda: now())  # milliseconds since 1970
    restored: dict[int, dict[str, float]] = field(default_factory=dict)  # curves by step, if no training made the run
    tags: dict[str, str] = field(default_factory=dict)
    dataset: dict[str, str] = field(default_factory=dict)  # MLflow's: name, digest, and JSON of source and profile
    registered: dict[str, Any] = field(default_factory=dict)  # arguments of `registry.register`
    status: str = "RUNNING"
    ended: int = 0  # milliseconds since 1970


def spool_of(root: Path) -> Path:
    """Where runs wait for the store that MLFLOW_TRACKING_URI names now, or for the project's own."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    store = without_login(named or "")
    return root.resolve() / SPOOL / (hashlib.sha256(store.encode()).hexdigest()[:8] if named else "own")


def waiting(spool: Path) -> list[Path]:
    """The folders of runs in a spool, the oldest first."""
    return sorted(path.parent for path in spool.glob(f"[0-9]*/{DESCRIPTION}"))


def describe(folder: Path) -> Description:
    """What the writer has said so far."""
    return Description(**json.loads((folder / DESCRIPTION).read_bytes()))


def lock(folder: Path, seconds: float = 0) -> filelock.BaseFileLock:
    """What the writer of a folder holds while it lives, to be acquired within so many seconds."""
    return filelock.FileLock(folder.with_suffix(".lock"), timeout=seconds)


def over(folder: Path, seconds: float = 0) -> bool:
    """Whether the writer has ended or died, so that nothing changes any more; waits so many seconds for that."""
    try:
        with lock(folder, seconds):
            return True
    except filelock.Timeout:
        return False


def remove(folder: Path) -> None:
    """Removes a folder; what a kill leaves of it is a folder with less in it, to be removed again."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == DESCRIPTION):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.rmdir()
    folder.with_suffix(".lock").unlink(missing_ok=True)


def files(folder: Path) -> list[tuple[str, Path]]:
    """The files in a folder and below, after their names relative to it."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".partial")]
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(paths)]


def line(step: int, values: Mapping[str, float]) -> str:
    """A line of METRICS."""
    return json.dumps({"time": now(), "step": step, "values": dict(values)}) + "\n"


def append(path: Path, lines: Sequence[str]) -> None:
    """Adds lines; a part of one that a full disk cut off before is ended first, and is no line."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write("".join(lines).encode())


def points(path: Path, start: int) -> tuple[list[Point], int]:
    """What the lines from a byte on say, and the byte where the next ones will begin."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        read = file.read()
    whole = read[: read.rfind(b"\n") + 1]
    return [point for text in whole.split(b"\n") if (point := _parsed(text))], start + len(whole)


def _parsed(text: bytes) -> Point | None:
    try:
        said = json.loads(text)
        return said["time"], said["step"], said["values"]
    except (ValueError, KeyError, TypeError):  # cut off by a full disk
        return None


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow has them."""
    return {name: "" if value is None else str(value) for name, value in values.items()}


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
