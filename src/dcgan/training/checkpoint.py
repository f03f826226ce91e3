"""Checkpoints: save, find, verify, resume.

Each training has its own folder, named after its fingerprint: a hash of everything that determines the bytes of its
results. A training therefore never resumes from the checkpoint of another one. A file name holds the step and the
start of the SHA-256 of the file. A file is either complete or absent, and the newest two files are kept. The final
checkpoint is kept after the training, because the results can still be lost. It is removed when another training
finishes.
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
    """Returns a hash of everything that determines a training's results: parameters, data, code, versions, device."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class CheckpointStore:
    """The checkpoints of one training, in the folder `root / fingerprint`."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.root = root
        self.folder = root / fingerprint
        self._lock = filelock.FileLock(root / f"{fingerprint}.lock")

    @contextmanager
    def locked(self, stop: Callable[[], int | None] = lambda: None) -> Iterator[None]:
        """Locks this training, and first waits for any other process that is running it.

        A killed `dvc` leaves its stage running. A second `dvc` waits for that stage and uses its final checkpoint.

        Args:
            stop: called about once a second during the wait; returns the signal that ends the wait, or None.

        Raises:
            Interrupted: `stop` returned a signal during the wait.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            logger.warning("another process is running this training; waiting for it to end")
            while not self._lock.is_locked:
                with suppress(filelock.Timeout):
                    self._lock.acquire(timeout=1)
                if signal := stop():
                    self._lock.release()
                    raise Interrupted(signal) from None
        try:
            for leftover in self.folder.glob(".*.partial"):  # left by a process that was killed while saving
                leftover.unlink()
            yield
        finally:
            self._lock.release()

    def save(self, step: int, tensors: dict[str, Tensor]) -> Path:
        """Writes the state after `step` steps, removes all but the newest `KEPT` checkpoints, and returns the path."""
        data = save(tensors)
        path = self.folder / f"{step:08d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        with atomic(path) as temporary:
            temporary.write_bytes(data)
        for old in self._newest_first()[KEPT:]:
            old.unlink()
        return path

    def latest(self) -> tuple[int, dict[str, Tensor]] | None:
        """Returns the step and the tensors of the newest intact checkpoint, or None if there is none.

        Damaged checkpoints are removed with a warning.
        """
        for path in self._newest_first():
            step, digest = path.stem.split("-")
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest()[:16] == digest:
                return int(step), load(data)
            logger.warning("%s is damaged and is removed; using the checkpoint before it, if there is one", path)
            path.unlink()
        return None

    def clear(self) -> None:
        """Removes all checkpoints; called when other files that they need are missing."""
        for path in self._newest_first():
            path.unlink()

    def finish(self) -> None:
        """Marks this training as finished, and removes other finished trainings that no process has locked."""
        try:
            (self.folder / _FINISHED).touch()
        except OSError as error:
            logger.warning("Cannot write to %s: %s; its checkpoint is kept until you remove it", self.folder, error)
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
