"""The format of a run folder, which holds what an MLflow run should contain: one process writes it, a sender reads it.

The writer holds a lock beside the folder while it runs. Nothing here communicates with MLflow.
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

OWN = "own"  # the folder in the spool for the project's own store
SPOOL = "mlspool"  # in the project's root; contains a folder per store, with a folder per run
# Names in the folder of a run.
DESCRIPTION = "run.json"  # a Description
METRICS = "metrics.jsonl"  # points of the curves, one per line
LOAD = "load.jsonl"  # the machine's load, one point per line; written by the sender itself
GRIDS = "grids"  # the fixed latents' pictures, named by step
ARTIFACTS = "artifacts"  # files
FIRST = "first"  # files that are uploaded only if the run has no file of the same name
MODEL = "generator.safetensors"  # logged as MLflow models

FINGERPRINT, GENERATOR_SHA256, EVALUATION = "fingerprint", "generator_sha256", "evaluation"
TRAINED_IN = "trained_in"  # tag of an evaluation's run: id of the training's run
PROTOCOL = "protocol"  # tag of an evaluation's run: JSON of `measured.protocol`
UNEVALUATED = "Not evaluated yet."  # in the description of such a run
RESTORED = "restored"  # tag of a run that was not logged while it was computed
DVC_EXPERIMENT, DVC_BASELINE = "dvc_experiment", "dvc_baseline"
Point = tuple[int, int, dict[str, float]]  # milliseconds since 1970, step, values


@dataclass(frozen=True)
class Description:
    """All contents of a run except its files and curves.

    A run that already exists in MLflow keeps its parameters and start time. Its name and `opened_with` are those of
    the process that finished it: a training is finished with its generator; name and experiment, with an evaluation.
    """

    # Tags by which the run is found, which depend only on its inputs: FINGERPRINT of a training, or GENERATOR_SHA256 of
    # its generator, with EVALUATION for an evaluation, since a second evaluation of a generator has its own run.
    identity: dict[str, str]
    name: str
    params: dict[str, str]  # of the training
    settings: dict[str, str] = field(default_factory=dict)  # of the evaluation; logged as parameters too
    opened_with: dict[str, str] = field(default_factory=dict)  # tags
    started: int = field(default_factory=lambda: now())  # milliseconds since 1970
    restored: dict[int, dict[str, float]] = field(default_factory=dict)  # curves by step, for a run without a training
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""  # the run's description in Markdown, see `Store._describe`
    dataset: dict[str, str] = field(default_factory=dict)  # MLflow's: name, digest, and JSON of source and profile
    registered: dict[str, Any] = field(default_factory=dict)  # arguments of `registry.register`
    status: str = "RUNNING"
    ended: int = 0  # milliseconds since 1970


def evaluation_id(metrics: Mapping[str, Any]) -> str:
    """The identity of an evaluation: a hash of all that metrics.json holds."""
    return hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:32]


def tracking_is_on() -> bool:
    """False if DCGAN_TRACKING is 0: then nothing is logged or kept."""
    return os.environ.get("DCGAN_TRACKING") != "0"


def spool_of(root: Path) -> Path:
    """The folder where runs wait for the store in MLFLOW_TRACKING_URI, by default for the project's own store."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    store = without_login(named or "")
    return root.resolve() / SPOOL / (hashlib.sha256(store.encode()).hexdigest()[:8] if named else OWN)


def waiting(spool: Path) -> list[Path]:
    """The run folders in a spool, oldest first."""
    return sorted(path.parent for path in spool.glob(f"[0-9]*/{DESCRIPTION}"))


def describe(folder: Path) -> Description:
    """The current description in a run folder."""
    return Description(**json.loads((folder / DESCRIPTION).read_bytes()))


def lock(folder: Path, seconds: float = 0) -> filelock.BaseFileLock:
    """The lock that the writer of a folder holds while it runs; acquiring it fails after `seconds` seconds."""
    return filelock.FileLock(folder.with_suffix(".lock"), timeout=seconds)


def over(folder: Path, seconds: float = 0) -> bool:
    """Whether the writer has ended, so that the folder no longer changes; waits up to `seconds` seconds for that."""
    try:
        with lock(folder, seconds):
            return True
    except filelock.Timeout:
        return False


def remove(folder: Path) -> None:
    """Removes a run folder, its description last, so that `waiting` still finds it if the process is killed."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == DESCRIPTION):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.rmdir()
    folder.with_suffix(".lock").unlink(missing_ok=True)


def files(folder: Path) -> list[tuple[str, Path]]:
    """All files in a folder and its subfolders, as pairs of relative name and path, sorted."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".partial")]
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(paths)]


def line(step: int, values: Mapping[str, float]) -> str:
    """A line of METRICS or LOAD, with the current time."""
    return json.dumps({"time": now(), "step": step, "values": dict(values)}) + "\n"


def append(path: Path, lines: Sequence[str]) -> None:
    """Appends lines to a file; if a full disk cut off the last line, ends it first, so that `points` ignores it."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write("".join(lines).encode())


def points(path: Path, start: int) -> tuple[list[Point], int]:
    """The points in the complete lines from byte `start` on, and the byte to start from next time."""
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
    """Parameters as strings, as MLflow stores them; None becomes an empty string."""
    return {name: "" if value is None else str(value) for name, value in values.items()}


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
