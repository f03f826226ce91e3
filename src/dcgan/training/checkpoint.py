"""Checkpoints: save, find, verify, resume.

Each training has its own folder, named after its fingerprint: a hash of everything that determines the bytes of its
results. A training therefore never resumes from the checkpoint of another one. A file name holds the step and the
start of the SHA-256 of the file. A file is either complete or absent, and the newest two files are kept. Beside them,
`training.json` holds what the fingerprint is of, so that a training that cannot go on can say why. The final
checkpoint is kept after the training, because the results can still be lost. It is removed when another training
finishes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
from safetensors.torch import load, save
from torch import Tensor

from dcgan.networks import Settings, build
from dcgan.sampling import random_state
from dcgan.system.errors import Interrupted
from dcgan.system.files import atomic, write_json

logger = logging.getLogger(__name__)
KEPT = 2
_FINISHED = "finished"
_PARTS = "training.json"
_DIGESTS = ("data", "code", "initial weights")  # parts that are digests, which tell a reader nothing


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Returns a hash of everything that determines a training's results: parameters, data, code, versions, device."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def digest_of_start(settings: Settings, seed: int) -> str:
    """Returns a SHA-256 of the initial weights, which the CPU draws: another processor can draw others."""
    digest = hashlib.sha256()
    for network in build(settings, random_state(seed, "weights")):
        for value in network.state_dict().values():
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


class CheckpointStore:
    """The checkpoints of one training, in the folder `root / fingerprint`.

    Args:
        parts: what the fingerprint is of; its `params` are the parameters.
    """

    def __init__(self, root: Path, fingerprint: str, parts: Mapping[str, Any] | None = None) -> None:
        self.root, self._parts = root, dict(parts or {})
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
        if self._parts and not (self.folder / _PARTS).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / _PARTS, self._parts)
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

    def shorter(self) -> tuple[int, Path] | None:
        """Returns the newest checkpoint of a training that differs in having fewer epochs alone: its step and file.

        Returns None if there is none, or if this training has a checkpoint of its own.
        """
        if self._newest_first() or "params" not in self._parts:
            return None
        found = []
        for file in self.root.glob(f"*/{_PARTS}"):
            with suppress(OSError, ValueError):
                parts = json.loads(file.read_text())
                epochs = parts["params"].pop("epochs")
                ours = {**self._parts, "params": dict(self._parts["params"])}
                if epochs < ours["params"].pop("epochs") and parts == ours:
                    found += [(int(path.stem.split("-")[0]), path) for path in file.parent.glob("[0-9]*.safetensors")]
        return max(found, default=None)

    def take_over(self, checkpoint: Path) -> None:
        """Copies a checkpoint that `shorter` returned, and the grids beside it, into this training's folder."""
        for path in [*sorted(checkpoint.parent.glob("*.png")), checkpoint]:  # the checkpoint needs the grids
            with atomic(self.folder / path.name) as temporary:
                shutil.copyfile(path, temporary)

    def passed_over(self) -> str:
        """Says in a sentence that there is a checkpoint of the same parameters which this training cannot go on from.

        The sentence says what differs, and is about the checkpoint that differs least. It is empty if there is none.
        """
        found = []
        for file in self.root.glob(f"*/{_PARTS}"):
            with suppress(OSError, ValueError):
                parts = json.loads(file.read_text())
                steps = [int(path.stem.split("-")[0]) for path in file.parent.glob("[0-9]*.safetensors")]
                if steps and file.parent != self.folder and parts.get("params") == self._parts.get("params"):
                    found.append((_differences(parts, self._parts), max(steps), file.parent.name))
        if not found:
            return ""
        differences, step, name = min(found, key=lambda each: (len(each[0]), -each[1]))
        why = "; ".join(differences)
        return f"the training starts from scratch, not from step {step} in checkpoints/{name}, since it differs: {why}"

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


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names the parts that both have and that differ, with their values unless they are digests."""
    differing = [name for name in before if name in now and before[name] != now[name]]
    return [name if name in _DIGESTS else f"{name} {before[name]}, then {now[name]}" for name in differing]
