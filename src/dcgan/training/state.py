"""The state of a training after some of its steps: checking, saving and resuming it."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from torch import Tensor

from dcgan.data.images import Pixels, save_png
from dcgan.system.errors import UserError
from dcgan.system.progress import say
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.step import COLUMNS, Trainer

logger = logging.getLogger(__name__)
_BEST = "best."  # prefix of weights in a checkpoint


class State:
    """The networks and optimizers, the losses of every step, the distances, the best weights so far, and the grids.

    Args:
        steps: number of steps of the whole training.
        store: used by rank 0 only.
    """

    def __init__(self, trainer: Trainer, steps: int, steps_per_epoch: int, store: CheckpointStore) -> None:
        self.trainer, self.steps, self.steps_per_epoch = trainer, steps, steps_per_epoch
        self.done = 0  # steps
        self.history = torch.full((steps, len(COLUMNS)), math.nan, device=trainer.hardware.device)
        self.distances: dict[int, float] = {}  # by step
        self.best: dict[str, Tensor] = {}  # weights with the lowest distance, if they are kept
        # PNG files of the fixed latents' pictures, before the first step and after each epoch.
        self.grids = [store.folder / f"epoch_{epoch:05d}.png" for epoch in range(steps // steps_per_epoch + 1)]
        self._store = store
        self._unsaved: dict[Path, Pixels] = {}  # grids to write before the next checkpoint
        self._checked = self._saved = 0  # steps

    def resume(self, distance_steps: int = 0) -> None:
        """Loads the newest checkpoint, if there is one. Rank 0 reads it for all ranks.

        If there is none, that of a training with fewer epochs and otherwise the same is copied, unless this training
        would not have come to the same state. If a grid that belongs to the checkpoint is missing, all checkpoints are
        removed and the training starts over. A line says so, or that a checkpoint of the same parameters is passed
        over.

        Args:
            distance_steps: steps between two measurements of the distance, which a training also takes at its end; 0:
                none.
        """
        ranks = self.trainer.ranks
        if ranks.writes:
            self._go_on_from_shorter(distance_steps)
        done, tensors = (self._store.latest() if ranks.writes else None) or (0, {})
        missing = [path for path in self.grids[: done // self.steps_per_epoch + 1] if done and not path.exists()]
        if missing:
            logger.warning("%s is missing; the training starts from scratch, not from step %d", missing[0], done)
            self._store.clear()
            done = 0
        elif ranks.writes and not done and (sentence := self._store.passed_over()):
            logger.warning("%s", sentence)
        self.done = self._checked = self._saved = ranks.max(done)
        if self.done:
            tensors = ranks.broadcast(tensors)
            self.history[: self.done] = tensors.pop("history").to(self.history.device)
            self.distances = {int(step): float(distance) for step, distance in tensors.pop("distances")}
            self.best = {name.removeprefix(_BEST): value for name, value in tensors.items() if name.startswith(_BEST)}
            self.trainer.load_state(tensors)

    def _go_on_from_shorter(self, distance_steps: int) -> None:
        if (shorter := self._store.shorter()) is None:
            return
        step, path = shorter
        where = f"step {step} in checkpoints/{path.parent.name}, of fewer epochs"
        reason = ""
        if self.trainer.recipe.depends_on_its_end:
            reason = "lr_decay and r1_gamma_end depend on the number of epochs"
        elif distance_steps and step % distance_steps:
            reason = "it measured a distance at its end"
        if reason:
            logger.warning("the training starts from scratch, not from %s, since %s", where, reason)
            return
        try:
            self._store.take_over(path)
        except OSError as error:
            logger.warning("Cannot copy %s: %s; the training starts from scratch", where, error)
        else:
            say(f"train: goes on from {where}")

    def add_step(self, losses: Tensor) -> None:
        """Records one more step; `losses` are the values of COLUMNS."""
        self.history[self.done] = losses
        self.done += 1

    def add_grid(self, sheet: Pixels) -> None:
        """Records the grid (H, W, C) of the fixed latents' pictures after the current epoch."""
        self._unsaved[self.grids[self.done // self.steps_per_epoch]] = sheet

    def pictures(self) -> list[Path | Pixels]:
        """The grids: their files, or the pixels (H, W, C) of those that could not be written."""
        return [self._unsaved.get(path, path) for path in self.grids]

    def add_distance(self, distance: float, keep_best: bool) -> None:
        """Records the distance of the current generator; `keep_best` keeps its weights if it is the lowest so far."""
        self.distances[self.done] = distance
        if keep_best and distance <= min(self.distances.values()):
            self.best = self.trainer.weights()

    def check(self) -> None:
        """Checks that the training is still finite, so that no other state is logged or saved and then resumed.

        Raises:
            UserError: a loss, a weight or an optimizer moment is not finite.
        """
        rows = self.history[self._checked : self.done, :-1].isfinite().all(dim=1)
        if not (rows.all() and self.trainer.finite()):
            bad = self._checked + int(rows.int().argmin()) if not rows.all() else self.done
            saved = self._saved
            last = f"the last good checkpoint is from step {saved}" if saved else "there is no checkpoint yet"
            raise UserError(
                f"A loss, a weight or a gradient moment is NaN or infinite at step {bad + 1}; "
                f"{last if self.trainer.ranks.writes else 'rank 0 names the last good checkpoint'}. "
                "Train again with a lower lr, a higher r1_gamma, or precision: fp32."
            )
        self._checked = self.done

    def save(self) -> None:
        """Writes the grids that a checkpoint needs, then the checkpoint. Only rank 0 writes, and once per step.

        Raises:
            UserError: a loss, a weight or an optimizer moment is not finite.
            OSError: a file cannot be written.
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
        """Calls `save`, but logs a warning if a file cannot be written, for example on a full disk."""
        try:
            self.save()
        except OSError as error:
            logger.warning("Cannot write the checkpoint of step %d: %s; the training continues", self.done, error)
