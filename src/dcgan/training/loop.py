"""The training loop: read, step, log, look, measure, save. It resumes where an earlier process stopped.

The same machine, threads, ranks and settings give the same bytes, even if the training was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from dcgan.data.images import Pixels, grid
from dcgan.networks import Discriminator, Generator, Settings
from dcgan.sampling import draw_latents, generate, random_state
from dcgan.system import hardware
from dcgan.system.choices import Keep
from dcgan.system.errors import Interrupted, UserError
from dcgan.system.hardware import Hardware
from dcgan.system.progress import progress
from dcgan.system.ranks import ALONE, Ranks
from dcgan.system.stopwatch import Stopwatch
from dcgan.training.batches import batches
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.curves import describe, points
from dcgan.training.diversity import Collapse
from dcgan.training.state import State
from dcgan.training.step import Recipe, Trainer

GRID_PICTURES = 64
FINAL_BATCHES, GRID_BATCHES = 16, 4  # batches of latents, to estimate BatchNorm statistics
SETTLED = 0.25  # share of the training; before it, generated pictures that look alike are normal


class Observer(Protocol):
    """Receives the progress of a training. It cannot change an output of the training."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Receives values after `step` steps.

        They are the losses (means over the last interval), `diversity` (after an epoch, as a share of the data's), or
        `quick_frechet_distance`.
        """

    def grid(self, step: int, sheet: Pixels) -> None:
        """Receives the fixed latents' pictures as one grid (H, W, C), before the first step and after each epoch."""


@dataclass(frozen=True)
class Quality:
    """How to measure the generator during training, and which generator to keep."""

    prepare: Callable[[torch.device], Callable[[Generator], float]]  # returns the distance function; lower is better
    kimg: float  # thousand pictures between two measurements, at least one step; 0: none
    keep: Keep  # the last generator, or the one with the lowest distance

    def due(self, state: State) -> bool:
        """Returns whether to measure now: every `kimg` thousand pictures, and at the end."""
        return state.done % self.steps(state.trainer.recipe) == 0 or state.done == state.steps

    def steps(self, recipe: Recipe) -> int:
        """The number of steps between two measurements; 0: none."""
        return max(1, round(self.kimg * 1000 / recipe.batch_size)) if self.kimg else 0


class Nobody:
    """An observer that ignores everything."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        pass

    def grid(self, step: int, sheet: Pixels) -> None:
        pass


@dataclass(frozen=True)
class Result:
    """A finished training."""

    # On the CPU, with newly estimated BatchNorm statistics; the weights are averaged if the recipe averages them.
    generator: Generator
    step: int  # the step after which the generator had these weights
    discriminator: Discriminator
    history: npt.NDArray[np.float32]  # (steps, C), the columns of step.COLUMNS
    distances: dict[int, float]  # by step; empty if nothing was measured
    # The fixed latents' pictures, untrained and after each epoch: PNG files in the store, or pixels (H, W, C) of those
    # that could not be written.
    grids: list[Path | Pixels]
    # Of this process: images_per_second, shares of its time, peak memory. Empty if there were no steps left to take.
    speed: dict[str, float]
    resumed: bool  # whether an earlier process took some of the steps


def train(
    faces: Pixels,
    settings: Settings,
    recipe: Recipe,
    machine: Hardware,
    store: CheckpointStore,
    observer: Observer,
    stop: Callable[[], int | None],
    checkpoint_minutes: float = 2.0,
    log_interval: int = 50,
    quality: Quality | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Trains from the newest checkpoint of `store`, or from the start if there is none.

    Args:
        faces: uint8, (N, image_size, image_size, nc); may be memory maps.
        stop: called after each step; returns the signal that asks the training to stop, or None.
        checkpoint_minutes: minutes between checkpoints.
        log_interval: steps between two points of the loss curves.
        quality: measured by rank 0 only.
        ranks: every rank calls this function; only rank 0 uses the store, and only rank 0 should have an observer
            that does something.

    Raises:
        UserError: a batch has more pictures than the data or cannot be shared equally by the ranks, or the training is
            no longer finite.
        Interrupted: `stop` returned a signal on some rank; the state is saved.
        OSError: the state cannot be saved after a signal. At other times a failure logs a warning.
    """
    steps_per_epoch = _steps_per_epoch(len(faces), recipe.batch_size, ranks)
    steps = recipe.epochs * steps_per_epoch
    trainer = Trainer(settings, recipe, machine, ranks, steps)
    state = State(trainer, steps, steps_per_epoch, store)
    state.resume(quality.steps(recipe) if quality else 0)
    first, watch = state.done, Stopwatch(before=partial(hardware.finish, machine))
    _take_steps(state, faces, observer, stop, checkpoint_minutes, log_interval, quality, watch)

    speed: dict[str, float] = {}
    if state.done > first:
        pictures_seen = (state.done - first) * recipe.batch_size
        speed = {"images_per_second": pictures_seen / watch.seconds()} | watch.shares()
        speed |= hardware.peak_memory(machine)
        state.try_to_save()
    best = min(state.distances.values(), default=None)
    return Result(
        generator=trainer.sampler(FINAL_BATCHES, state.best).cpu(),
        step=max(step for step, value in state.distances.items() if value == best) if state.best else state.done,
        discriminator=trainer.discriminator.cpu(),
        history=state.history.cpu().numpy(),
        distances=state.distances,
        grids=state.pictures(),
        speed=speed,
        resumed=first > 0,
    )


def _steps_per_epoch(pictures: int, batch_size: int, ranks: Ranks) -> int:
    if batch_size > pictures:
        raise UserError(
            f"batch_size: {batch_size} is more than the {pictures} pictures in the training data; lower it."
        )
    if batch_size % ranks.count:
        raise UserError(
            f"batch_size: {batch_size} cannot be shared equally by {ranks.count} ranks; "
            "give a multiple of the number of ranks."
        )
    return pictures // batch_size


def _take_steps(
    state: State,
    faces: Pixels,
    observer: Observer,
    stop: Callable[[], int | None],
    checkpoint_minutes: float,
    log_interval: int,
    quality: Quality | None,
    watch: Stopwatch,
) -> None:
    """Takes the remaining steps. This is the loop itself."""
    trainer, recipe, ranks = state.trainer, state.trainer.recipe, state.trainer.ranks
    collapse, device = Collapse(faces, recipe.seed), trainer.hardware.device
    distance = quality.prepare(device) if quality and quality.kimg and ranks.writes else None
    latest, last_save = dict[str, float](), time.monotonic()
    if not state.done and ranks.writes:
        with watch.time("sampling"):
            _look(state, observer, collapse)

    stream = batches(faces, recipe.batch_size, recipe.seed, state.done, state.steps, device, ranks, recipe.mirror)
    left = range(state.done, state.steps)
    shown = progress(left, state.steps, "training", "steps", state.done, lambda: describe(latest))
    for step in shown if ranks.writes else left:
        # Read.
        with watch.time("data", wait=False):
            real = next(stream)

        # Step.
        state.add_step(trainer.step(step, real))

        # Log.
        if state.done % log_interval == 0 or state.done == state.steps:
            with watch.time("logging"):
                state.check()
                logged = step // log_interval * log_interval  # steps before this interval
                ((_, latest),) = points(state.history[logged : state.done].cpu().numpy(), log_interval)
                observer.metrics(state.done, latest)

        # Look at the fixed latents.
        if state.done % state.steps_per_epoch == 0 and ranks.writes:
            with watch.time("sampling"):
                _look(state, observer, collapse)

        # Measure.
        if quality and distance and quality.due(state):
            with watch.time("measuring"):
                state.check()
                measured = distance(trainer.sampler(GRID_BATCHES))
                state.add_distance(measured, keep_best=quality.keep == "best")
                observer.metrics(state.done, {"quick_frechet_distance": measured})

        # Save.
        if signal := ranks.max(stop() or 0):
            state.save()
            ranks.barrier()  # until rank 0 has saved, since a launcher may end all ranks when the first one ends
            raise Interrupted(signal)
        if time.monotonic() - last_save > checkpoint_minutes * 60 and ranks.writes:
            with watch.time("checkpoints"):
                state.try_to_save()
            last_save = time.monotonic()


def _look(state: State, observer: Observer, collapse: Collapse) -> None:
    """Passes the fixed latents' pictures to the observer, and checks whether they have become alike."""
    settings, seed = state.trainer.settings, state.trainer.recipe.seed
    latents = draw_latents(settings, GRID_PICTURES, random_state(seed, "grid"))
    pictures = generate(state.trainer.sampler(GRID_BATCHES), latents)
    sheet = grid(pictures, columns=8)
    state.add_grid(sheet)
    observer.grid(state.done, sheet)
    if state.done:
        epoch = state.done // state.steps_per_epoch
        share = collapse.look(pictures, epoch, warn=state.done >= SETTLED * state.steps)
        observer.metrics(state.done, {"diversity": share})
