"""Checkpoints of trainings that nobody has gone on with, for `dcgan clean`; see `checkpoint` for their format."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import filelock

from dcgan.system.errors import UserError
from dcgan.system.leftovers import Leftover, age, size


def trainings(root: Path) -> list[str]:
    """The fingerprints of the trainings that have a folder in `root`."""
    return sorted(path.name for path in root.glob("[0-9a-f]*") if path.is_dir() and len(path.name) == 32)


def checkpoints(
    root: Path, days: float, wanted: Callable[[str], str], resumed_by: Callable[[str], str]
) -> Iterator[Leftover]:
    """The checkpoints in `root`. Those to remove are older than `days` days, of no running training and not wanted.

    Args:
        wanted: returns what would go on with the training of a fingerprint; empty if nothing would.
        resumed_by: returns how to go on with it, as the end of a sentence; empty if that is not known.
    """
    for fingerprint in trainings(root):
        folder = root / fingerprint
        old = age(folder)
        what = f"{_state(folder)}, {old:.0f} days ago"
        about = f"checkpoints/{fingerprint}", 1, size([folder])
        if not _free(folder):
            yield Leftover(*about, "a process is running this training")
        elif by := wanted(fingerprint):
            yield Leftover(*about, f"{what}; {by} has its settings")
        else:
            why = f"{what}{resumed_by(fingerprint)}"
            yield Leftover(*about, why, partial(_remove, folder, days) if old >= days else None)


def _state(folder: Path) -> str:
    if (folder / "finished").exists():
        return "finished"
    steps = [int(path.stem.split("-")[0]) for path in folder.glob("[0-9]*.safetensors")]
    return f"interrupted after step {max(steps)}" if steps else "interrupted before the first checkpoint"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0):
        yield


def _free(folder: Path) -> bool:
    try:
        with _locked(folder):
            return True
    except filelock.Timeout:
        return False


def _remove(folder: Path, days: float) -> None:
    try:
        with _locked(folder):
            if age(folder) >= days:  # unless a training has gone on with it meanwhile
                shutil.rmtree(folder)
    except filelock.Timeout:
        raise UserError(f"checkpoints/{folder.name}: a process has just started this training; it is kept.") from None
