"""Checkpoints: save, find, verify, resume.

One folder a fingerprint, which is a hash of all that decides a training's bytes; so a checkpoint is
never resumed by another training than its own. A file's name holds its step and the start of its
SHA-256, it appears whole or not at all, and the last two are kept. The final one outlives its training,
whose results can be lost after it ended, and goes when another training has finished.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
from safetensors.torch import load, save
from torch import Tensor

from dcgan.system.errors import Interrupted
from dcgan.system.files import atomic

logger = logging.getLogger(__name__)
KEPT = 2
_FINISHED = "finished"


def fingerprint(parts: dict[str, Any]) -> str:
    """A hash of everything that decides a training's bytes: parameters, data, code, versions, device."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class CheckpointStore:
    """The checkpoints of one training, in the folder `root / fingerprint`."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.root = root
        self.folder = root / fingerprint
        self._lock = filelock.FileLock(root / f"{fingerprint}.lock")

    @contextmanager
    def locked(self, stop: Callable[[], int | None] = lambda: None) -> Iterator[None]:
        """Holds the training to itself; waits for another process that runs the same one.

        A killed `dvc` leaves its stage running: a second one waits for it and takes its final checkpoint.

        Raises:
            Interrupted: `stop` returned a signal while it waited.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            logger.warning("another process runs this very training; waiting for it to end")
            while not self._lock.is_locked:
                with suppress(filelock.Timeout):
                    self._lock.acquire(timeout=1)
                if signal := stop():
                    self._lock.release()
                    raise Interrupted(signal) from None
        try:
            for leftover in self.folder.glob(".*.partial"):  # of a process that was killed while it saved
                leftover.unlink()
            yield
        finally:
            self._lock.release()

    def save(self, step: int, tensors: dict[str, Tensor]) -> Path:
        """Writes the state after `step` steps and removes all but the newest `KEPT`."""
        data = save(tensors)
        path = self.folder / f"{step:08d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        with atomic(path) as temporary:
            temporary.write_bytes(data)
        for old in self._newest_first()[KEPT:]:
            old.unlink()
        return path

    def latest(self) -> tuple[int, dict[str, Tensor]] | None:
        """The newest checkpoint that is whole: its step and tensors. A damaged one is passed over, aloud."""
        for path in self._newest_first():
            step, digest = path.stem.split("-")
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest()[:16] == digest:
                return int(step), load(data)
            logger.warning("%s is damaged; falling back to the checkpoint before it", path)
            path.unlink()
        return None

    def clear(self) -> None:
        """Removes all checkpoints, of which some other part is missing."""
        for path in self._newest_first():
            path.unlink()

    def finish(self) -> None:
        """Marks this training as finished, and removes other finished ones that nothing uses now."""
        (self.folder / _FINISHED).touch()
        for marker in self.root.glob(f"*/{_FINISHED}"):
            if marker.parent != self.folder:
                lock = filelock.FileLock(self.root / f"{marker.parent.name}.lock")
                try:
                    with lock.acquire(blocking=False):
                        shutil.rmtree(marker.parent)
                except filelock.Timeout:
                    continue

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"), reverse=True)
