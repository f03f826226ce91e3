"""The training loop: read, step, log, look, save; from where an earlier process stopped.

The same machine, threads, ranks and settings give the same bytes, interrupted or not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcgan.data.images import Faces, Pixels, grid, save_png
from dcgan.networks import Discriminator, Generator, Settings
from dcgan.sampling import draw_latents, generate, random_state
from dcgan.system import hardware
from dcgan.system.errors import Interrupted, UserError
from dcgan.system.hardware import Hardware
from dcgan.system.progress import progress
from dcgan.system.ranks import ALONE, Ranks
from dcgan.system.stopwatch import Stopwatch
from dcgan.training import diversity
from dcgan.training.batches import batches
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.step import COLUMNS, Recipe, Trainer

logger = logging.getLogger(__name__)
GRID_PICTURES = 64
_BEST = "best."  # prefix of weights in a checkpoint
FINAL_BATCHES, GRID_BATCHES = 16, 4  # over which BatchNorm statistics are estimated
SETTLED = 0.25  # share of the training before which generated pictures may well look alike


class Observer(Protocol):
    """Who is told how the training goes; what it does cannot change an out."""

    def losses(self, step: int, values: dict[str, float]) -> None:
        """Means over the last interval; `step` steps are done."""

    def grid(self, step: int, sheet: Pixels) -> None:
        """The fixed latents' pictures before the first step and after each epoch, laid out as one (H, W, C)."""

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Single numbers: `diversity` after an epoch, as a share of the data's; `quick_frechet_distance`."""


@dataclass(frozen=True)
class Quality:
    """How good the generator is while it is trained."""

    prepare: Callable[[torch.device], Callable[[Generator], float]]  # to a distance: less is better
    kimg: float  # thousand pictures between two measurements; 0: none
    keep: Literal["last", "best"]  # which of the generators that were measured


class Nobody:
    """An observer that looks away."""

    def losses(self, step: int, values: dict[str, float]) -> None:
        pass

    def grid(self, step: int, sheet: Pixels) -> None:
        pass

    def measured(self, step: int, values: dict[str, float]) -> None:
        pass


@dataclass(frozen=True)
class Result:
    """A finished training."""

    generator: Generator  # averaged weights, BatchNorm statistics estimated anew, on the CPU
    step: int  # after which the generator had these weights
    discriminator: Discriminator
    history: npt.NDArray[np.float32]  # (steps, len(COLUMNS))
    distances: dict[int, float]  # by step, where a Quality was given
    grids: list[Path]  # PNG files in the checkpoint store: the fixed latents' pictures, untrained and after each epoch
    # Of this process: images_per_second, shares of its time, peak memory; empty if all was done before.
    speed: dict[str, float]
    resumed: bool  # some of it was done by an earlier process


def train(
    faces: Faces,
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
    """Trains from the newest checkpoint of `store`, or from the start.

    Args:
        faces: uint8, (N, image_size, image_size, nc); may be memory maps.
        stop: asked after each step for the signal that wants the training to stop, or None.
        checkpoint_minutes: between checkpoints.
        log_interval: steps between two calls of the observer.
        quality: measured by rank 0 alone every so often, and at the end.
        ranks: all call this alike; rank 0 alone uses the store, and should be the only one with an observer.

    Raises:
        UserError: there are fewer pictures than a batch, or a loss is no longer finite.
        Interrupted: `stop` returned a signal on some rank; the state is saved.
        OSError: the last state cannot be saved. One on the way that cannot is warned of.
    """
    steps_per_epoch = len(faces) // recipe.batch_size
    if not steps_per_epoch:
        raise UserError(
            f"batch_size: {recipe.batch_size} is more than the {len(faces)} pictures that are trained on; lower it."
        )
    if recipe.batch_size % ranks.count:
        raise UserError(f"batch_size: {recipe.batch_size} cannot be shared equally by {ranks.count} ranks; change it.")
    steps = recipe.epochs * steps_per_epoch
    trainer = Trainer(settings, recipe, machine, ranks)
    history = torch.full((steps, len(COLUMNS)), math.nan, device=machine.device)
    grid_latents = draw_latents(settings, GRID_PICTURES, random_state(recipe.seed, "grid"))
    grids = [store.folder / f"epoch_{epoch:05d}.png" for epoch in range(recipe.epochs + 1)]
    collapse = Collapse(faces, recipe.seed)
    distance = quality.prepare(machine.device) if quality and quality.kimg and ranks.writes else None
    between = max(1, round(quality.kimg * 1000 / recipe.batch_size)) if quality else 0  # steps
    distances: dict[int, float] = {}
    best: dict[str, Tensor] = {}  # weights of the least distance so far, if they are to be kept

    # Resume.
    done, state = (store.latest() if ranks.writes else None) or (0, {})
    if done and not all(path.exists() for path in grids[: done // steps_per_epoch + 1]):
        store.clear()
        done = 0
    done = ranks.most(done)
    if done:
        state = ranks.from_first(state)
        history[:done] = state.pop("history").to(machine.device)
        distances = {int(step): float(distance) for step, distance in state.pop("distances")}
        best = {name.removeprefix(_BEST): value for name, value in state.items() if name.startswith(_BEST)}
        trainer.load_state(state)

    first, logged, saved = done, done - done % log_interval, done
    unsaved: dict[Path, Pixels] = {}  # grids, which a checkpoint needs

    def check() -> None:
        """Nothing that is not finite is told or saved; it would be resumed for ever."""
        rows = history[logged:done, :-1].isfinite().all(dim=1)
        if not (rows.all() and trainer.finite()):
            bad = logged + int(rows.int().argmin()) if not rows.all() else done
            last = f"the last good checkpoint is that of step {saved}" if saved else "there is no checkpoint yet"
            raise UserError(
                f"loss: it is no longer finite at step {bad + 1}; {last if ranks.writes else 'rank 0 knows more'}. "
                "Try a lower lr, a higher r1_gamma, or precision: fp32."
            )

    def save() -> None:
        nonlocal saved
        check()
        if ranks.writes and done > saved:
            for path in list(unsaved):
                save_png(path, unsaved[path])
                del unsaved[path]
            measured = torch.tensor([*distances.items()], dtype=torch.float64).reshape(-1, 2)
            kept = {_BEST + name: value for name, value in best.items()}
            store.save(done, {**trainer.state(), "history": history[:done].cpu(), "distances": measured, **kept})
        saved = done

    watch, last_save = Stopwatch(), time.monotonic()

    def timed(what: str) -> AbstractContextManager[None]:
        hardware.finish(machine)
        return watch.time(what)

    def look() -> None:
        epoch = done // steps_per_epoch
        pictures = generate(trainer.sampler(GRID_BATCHES), grid_latents)
        sheet = unsaved[grids[epoch]] = grid(pictures, columns=8)
        observer.grid(done, sheet)
        if epoch:
            share = collapse.look(pictures, epoch, warn=done >= SETTLED * steps)
            observer.measured(done, {"diversity": share})

    if not done and ranks.writes:
        with timed("sampling"):
            look()
    latest: dict[str, float] = {}
    stream = batches(faces, recipe.batch_size, recipe.seed, done, steps, machine.device, ranks)
    shown = range(done, steps)
    for step in progress(shown, steps, "training", "steps", done, lambda: _describe(latest)) if ranks.writes else shown:
        with watch.time("data"):
            real = next(stream)
        history[step] = trainer.step(step, real)
        done = step + 1

        # Log.
        if done % log_interval == 0 or done == steps:
            with timed("logging"):
                check()
                ((_, values),) = points(history[logged:done].cpu().numpy(), log_interval)
                observer.losses(done, values)
                logged = done
                latest.update(values)

        # Look at the fixed latents.
        if done % steps_per_epoch == 0 and ranks.writes:
            with timed("sampling"):
                look()

        # Measure.
        if quality and distance and (done % between == 0 or done == steps):
            with timed("measuring"):
                check()
                distances[done] = distance(trainer.sampler(GRID_BATCHES))
                observer.measured(done, {"quick_frechet_distance": distances[done]})
                if quality.keep == "best" and distances[done] <= min(distances.values()):
                    best = trainer.weights()

        # Save.
        if signal := ranks.most(stop() or 0):
            save()
            raise Interrupted(signal)
        if time.monotonic() - last_save > checkpoint_minutes * 60 and ranks.writes:
            with timed("checkpoints"):
                try:
                    save()
                except OSError as error:
                    logger.warning("no checkpoint after step %d: %s; the training goes on", done, error)
            last_save = time.monotonic()

    speed: dict[str, float] = {}
    if done > first:
        pictures_seen = (done - first) * recipe.batch_size
        speed = {"images_per_second": pictures_seen / watch.seconds()} | watch.shares()
        speed |= hardware.peak_memory(machine)
        save()
    return Result(
        generator=trainer.sampler(FINAL_BATCHES, best).cpu(),
        step=max(step for step in distances if distances[step] == min(distances.values())) if best else steps,
        discriminator=trainer.discriminator.cpu(),
        history=history.cpu().numpy(),
        distances=distances,
        grids=grids,
        speed=speed,
        resumed=first > 0,
    )


class Collapse:
    """Watches whether the generated pictures become alike, and warns once each time that they do."""

    def __init__(self, faces: Faces, seed: int) -> None:
        self._of_data = diversity.of_data(faces, seed)
        self._warned = False

    def look(self, pictures: Pixels, epoch: int, warn: bool) -> float:
        """The diversity of generated pictures as a share of the data's; infinite if the data has none."""
        made = diversity.diversity(pictures)
        share = made / self._of_data if self._of_data else math.inf
        collapsed = share < diversity.COLLAPSED
        if collapsed and warn and not self._warned:
            logger.warning(
                "the generator has collapsed: after epoch %d its pictures differ %.0f %% as much as the data's; "
                "try loss: relativistic with r1_gamma above 0, augment: true, or a lower lr",
                epoch,
                100 * share,
            )
        self._warned = collapsed and (warn or self._warned)
        return share


def _describe(values: dict[str, float]) -> str:
    """The losses as the DCGAN tutorials print them."""
    text = "Loss_D {d_loss:.3f} Loss_G {g_loss:.3f} D(x) {d_real:.3f} D(G(z)) {d_fake_before:.3f} / {d_fake_after:.3f}"
    return text.format(**values) if values else ""


def points(history: npt.NDArray[np.float32], interval: int) -> list[tuple[int, dict[str, float]]]:
    """The curves' points as an observer is told them: the means of every `interval` steps, and of those at the end.

    A mean is of those steps that have the value; without one there is no point.
    """
    found = []
    for start in range(0, len(history), interval):
        part = history[start : start + interval]
        columns = {name: part[~np.isnan(part[:, i]), i] for i, name in enumerate(COLUMNS)}
        means = {name: float(values.mean(dtype=np.float64)) for name, values in columns.items() if len(values)}
        found.append((start + len(part), means))
    return found


def loss_table(
    history: npt.NDArray[np.float32], distances: Mapping[int, float], most_rows: int = 1000
) -> list[dict[str, float]]:
    """The history in at most `most_rows` rows, each the mean of its window of steps; for plots.

    The penalty, which most steps do not take, is the mean of those that do, or NaN; likewise the distances, which
    have a column where there are any.
    """
    measured = np.full((len(history), 1 if distances else 0), np.nan, np.float32)
    for step, distance in distances.items():
        measured[step - 1] = distance
    history = np.concatenate([history, measured], axis=1)
    columns = (*COLUMNS, "quick_frechet_distance")[: history.shape[1]]
    window = math.ceil(len(history) / most_rows)
    rows = []
    for start in range(0, len(history), window):
        part = history[start : start + window]
        taken = ~np.isnan(part)
        sums, counts = np.where(taken, part, 0).sum(axis=0, dtype=np.float64), taken.sum(axis=0)
        values = np.divide(sums, counts, out=np.full(len(columns), np.nan), where=counts > 0)
        rows.append({"step": start + len(part)} | dict(zip(columns, values.tolist(), strict=True)))
    return rows
