"""Where DVC is at work: the project, and the copies of it in which DVC runs experiments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import filelock
import psutil
from dvc.lock import LockError, make_lock

from dcgan.system.errors import UserError
from dcgan.system.files import remove
from dcgan.system.leftovers import Leftover, age, remove_all, size
from dcgan.tracking.repository import git
from dcgan.tracking.run_folder import SPOOL

QUEUED, FAILED = "refs/exps/celery/stash", "refs/exps/celery/failed"  # experiments in DVC's queue, in the reflog
STASHES = ("refs/stash", QUEUED, FAILED)

# Folders that stages and commands write into.
_WRITTEN = ("", "data", "data/downloads", "data/links", "models", "reports", "reports/lineage")


def working(folder: Path) -> bool:
    """Whether DVC, or a stage that a killed DVC has left running, works in the project or in a copy of it."""
    temporary = folder / ".dvc" / "tmp"
    temporary.mkdir(exist_ok=True)
    try:
        with make_lock(str(temporary / "lock"), tmp_dir=str(temporary)):
            pass
        for stage in temporary.glob("dcgan-*.lock"):
            with filelock.FileLock(stage, timeout=0):
                pass
    except (LockError, filelock.Timeout):
        return True
    # DVC holds its lock between stages only; while one runs, this file names the process.
    listed = temporary / "rwlock"
    read = json.loads(listed.read_text() or "{}") if listed.exists() else {}
    holders = [*read.get("write", {}).values(), *(each for some in read.get("read", {}).values() for each in some)]
    return any(psutil.pid_exists(each["pid"]) for each in holders)


def copies(root: Path) -> list[Path]:
    """The copies of the project for experiments that are running, or were killed: DVC removes them when they end."""
    folder = root / ".dvc" / "tmp" / "exps"
    return [path for path in (*folder.glob("tmp*"), *folder.glob("standalone/tmp*")) if (path / ".dvc").is_dir()]


def abandoned_copies(root: Path, days: float) -> Iterator[Leftover]:
    """The copies that no process works in, and that nothing has changed for `days` days."""
    old = [path for path in copies(root) if not working(path) and age(path) >= days]
    if old:
        why = "copies of the project, for experiments that were killed"
        yield Leftover(".dvc/tmp/exps", len(old), size(old), why, partial(_remove, old))


def _remove(old: list[Path]) -> None:
    for path in old:
        if working(path):
            raise UserError(f"{path}: DVC has started to work there; it is kept.")
        remove(path)


def temporary_files(root: Path, days: float) -> Iterator[Leftover]:
    """What killed processes have left under temporary names, see `dcgan.system.files`."""
    paths = [path for folder in _WRITTEN for path in (root / folder).glob(".*.partial")]
    paths += root.glob(f"{SPOOL}/*/.*.partial")
    old = [path for path in paths if path.resolve().is_relative_to(root.resolve()) and age(path) >= days]
    if old and not working(root):
        yield Leftover("*.partial", len(old), size(old), "left by killed processes", partial(remove_all, old))


def reflog(root: Path, reference: str) -> list[tuple[str, str]]:
    """The commits in a stash: hash and message of each."""
    listed = git(root, "reflog", "show", "--format=%H %gs", reference).stdout.splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in listed]
