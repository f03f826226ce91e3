"""A lock for each stage, so that a stage which a killed `dvc` left running does not meet the next `dvc repro`'s."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from pipeline.support.dvc_files import ROOT
from pipeline.support.inputs import RANK_FILE, Inputs

logger = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(taken: Inputs | None) -> Iterator[None]:
    """Waits for any other process that runs the same stage in this folder, and holds the stage's lock.

    The stage `train` is left out, since it locks the checkpoints of its training, and so are ranks, whose launcher
    holds the lock.
    """
    if taken is None or taken.stage == "train" or RANK_FILE:
        yield
        return
    folder = ROOT / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"dcgan-{taken.stage}.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        logger.warning("another process is running the stage %s; waiting for it to end", taken.stage)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
