"""All that a training has come to after some of its steps, as it is checked, saved and resumed."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from torch import Tensor

from dcgan.data.images import Pixels, save_png
from dcgan.system.errors import UserError
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.step import COLUMNS, Trainer

logger = logging.getLogger(__name__)
_BEST = "best."  # prefix of weights in a checkpoint


class State:
    """Networks and optimizers, losses of every step, distances, the best weights so far, grids.

    Args:
        steps: of the whole training.
        store: used by rank 0 alone.
    """

    def __init__(self, trainer: Trainer, steps: int, steps_per_epoch: int, store: CheckpointStore) -> None:
        self.trainer, self.steps, self.steps_per_epoch = trainer, steps, steps_per_epoch
        self.done = 0  # steps
        self.history = torch.full((steps, len(COLUMNS)), math.nan, device=trainer.hardware.device)
        self.distances: dict[int, float] = {}  # by step
        self.best: dict[str, Tensor] = {}  # weights of the least distance, if they are to be kept
        # PNG files of the fixed latents' pictures, untrained and after each epoch.
        self.grids = [store.folder / f"epoch_{epoch:05d}.png" for epoch in range(steps // steps_per_epoch + 1)]
        self._store = store
        self._unsaved: dict[Path, Pixels] = {}  # grids, which a checkpoint needs
        self._checked = self._saved = 0  # steps

    def resume(self) -> None:
        """Takes up the newest checkpoint if there is one; rank 0 reads it for all."""
        ranks = self.trainer.ranks
        done, tensors = (self._store.latest() if ranks.writes else None) or (0, {})
        if done and not all(path.exists() for path in self.grids[: done // self.steps_per_epoch + 1]):
            self._store.clear()
            done = 0
        self.done = self._checked = self._saved = ranks.max(done)
        if self.done:
            tensors = ranks.broadcast(tensors)
            self.history[: self.done] = tensors.pop("history").to(self.history.device)
            self.distances = {int(step): float(distance) for step, distance in tensors.pop("distances")}
            self.best = {name.removeprefix(_BEST): value for name, value in tensors.items() if name.startswith(_BEST)}
            self.trainer.load_state(tensors)

    def add_step(self, losses: Tensor) -> None:
        """One more step is done; its losses are the values of COLUMNS."""
        self.history[self.done] = losses
        self.done += 1

    def add_grid(self, sheet: Pixels) -> None:
        """The fixed latents' pictures after the present epoch, (H, W, C)."""
        self._unsaved[self.grids[self.done // self.steps_per_epoch]] = sheet

    def add_distance(self, distance: float, keep_best: bool) -> None:
        """The distance of the present generator, whose weights are kept if it is the least so far and they should."""
        self.distances[self.done] = distance
        if keep_best and distance <= min(self.distances.values()):
            self.best = self.trainer.weights()

    def check(self) -> None:
        """Nothing that is not finite is told or saved; it would be resumed for ever.

        Raises:
            UserError: a loss, a weight or a moment of the optimizers is not.
        """
        rows = self.history[self._checked : self.done, :-1].isfinite().all(dim=1)
        if not (rows.all() and self.trainer.finite()):
            bad = self._checked + int(rows.int().argmin()) if not rows.all() else self.done
            saved = self._saved
            last = f"the last good checkpoint is that of step {saved}" if saved else "there is no checkpoint yet"
            raise UserError(
                f"loss: it is no longer finite at step {bad + 1}; "
                f"{last if self.trainer.ranks.writes else 'rank 0 knows more'}. "
                "Try a lower lr, a higher r1_gamma, or precision: fp32."
            )
        self._checked = self.done

    def save(self) -> None:
        """Writes a checkpoint, after the grids that it needs; on rank 0, and once for a step.

        Raises:
            UserError: something is not finite.
            OSError: it cannot be written.
        """
        self.check()
        if self.trainer.ranks.writes and self.done > self._saved:
            for path in list(self._unsaved):
                save_png(path, self._unsaved[path])
                del self._unsaved[path]
            distances = torch.tensor([*self.distances.items()], dtype=torch.float64).reshape(-1, 2)
            best = {_BEST + name: value for name, value in self.best.items()}
            history = self.history[: self.done].cpu()
            self._store.save(self.done, {**self.trainer.state(), "history": history, "distances": distances, **best})
        self._saved = self.done

    def try_to_save(self) -> None:
        """As `save`, but a disk that is full is warned of."""
        try:
            self.save()
        except OSError as error:
            logger.warning("no checkpoint after step %d: %s; the training goes on", self.done, error)
