"""The training loop.

Everything drawn at random is a function of (seed, purpose, step) alone, so that a resumed training is the
same training: the same machine, threads and settings give the same bytes, interrupted or not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcgan import losses
from dcgan.augment import diff_augment
from dcgan.batches import batches
from dcgan.checkpoint import CheckpointStore
from dcgan.errors import Interrupted, UserError
from dcgan.hardware import Hardware
from dcgan.images import Faces, Pixels, grid, save_png
from dcgan.networks import Discriminator, Generator, Settings, averaged_copy, build, estimate_batch_norm, update_average
from dcgan.progress import progress
from dcgan.sampling import draw_latents, generate, random_state

PENALTY_INTERVAL = 8  # steps: the penalties are applied lazily and scaled up (Karras et al. 2020, section 3.1)
AVERAGE_RAMP_UP = 0.05  # the half-life is at most this share of the pictures seen (Karras et al. 2022, EDM)
GRID_PICTURES = 64
# The penalty is NaN at the steps that do not take it.
COLUMNS = ("d_loss", "g_loss", "d_real", "d_fake_before", "d_fake_after", "penalty")
FINAL_BATCHES, GRID_BATCHES, LATENTS_A_BATCH = 16, 4, 128  # over which BatchNorm statistics are estimated


@dataclass(frozen=True)
class Recipe:
    """How to train; the keys of params.yaml of the same names."""

    seed: int
    epochs: int
    batch_size: int
    lr: float
    lr_discriminator: float | None
    beta1: float
    beta2: float
    loss: losses.Loss
    label_smoothing: float
    r1_gamma: float
    ema_halflife_kimg: float
    augment: bool


class Observer(Protocol):
    """Who is told how the training goes; what it does cannot change an out."""

    def losses(self, step: int, values: dict[str, float]) -> None:
        """Means over the last interval; `step` steps are done."""

    def grid(self, step: int, sheet: Pixels) -> None:
        """The fixed latents' pictures after an epoch, laid out as one (H, W, C)."""


class Nobody:
    """An observer that looks away."""

    def losses(self, step: int, values: dict[str, float]) -> None:
        pass

    def grid(self, step: int, sheet: Pixels) -> None:
        pass


@dataclass(frozen=True)
class Result:
    """A finished training."""

    generator: Generator  # averaged weights, BatchNorm statistics estimated anew, on the CPU
    discriminator: Discriminator
    history: npt.NDArray[np.float32]  # (steps, len(COLUMNS))
    grids: list[Path]  # PNG files in the checkpoint store: the fixed latents' pictures after each epoch
    speed: dict[str, float]  # images_per_second of this process; empty if all was done before


class Trainer:
    """Networks, optimizers and averaged weights; a step changes them."""

    def __init__(self, settings: Settings, recipe: Recipe, hardware: Hardware) -> None:
        self.settings, self.recipe, self.hardware = settings, recipe, hardware
        generator, discriminator = build(settings, random_state(recipe.seed, "weights"))
        self.generator = generator.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = averaged_copy(self.generator)
        lrs = recipe.lr, recipe.lr_discriminator or recipe.lr
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), lr, (recipe.beta1, recipe.beta2), fused=True)
            for network, lr in zip((self.generator, self.discriminator), lrs, strict=True)
        )

    def step(self, number: int, real: Tensor) -> Tensor:
        """One step of the discriminator, then one of the generator.

        Args:
            number: of the step, from 0.
            real: pictures in [-1, 1], (batch_size, nc, image_size, image_size).

        Returns:
            The values of COLUMNS, on the device.
        """
        recipe, device = self.recipe, self.hardware.device
        latents = draw_latents(self.settings, len(real), random_state(recipe.seed, "latents", number)).to(device)
        random = random_state(recipe.seed, "augment", number)

        def augment(pictures: Tensor) -> Tensor:
            return diff_augment(pictures, random) if recipe.augment else pictures

        def autocast() -> Any:
            bf16 = self.hardware.precision == "bf16"
            return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()

        # Discriminator: generated pictures are constants here.
        with autocast():
            fake = self.generator(latents)
            on_real = self.discriminator(augment(real)).float()
            on_fake = self.discriminator(augment(fake.detach())).float()
        loss_d = losses.discriminator_loss(recipe.loss, on_real, on_fake, recipe.label_smoothing)
        penalty, total = torch.full((), math.nan, device=device), loss_d
        if recipe.r1_gamma and number % PENALTY_INTERVAL == 0:
            penalty = self._penalty(augment(real)) + self._penalty(augment(fake.detach().float()))
            total = loss_d + recipe.r1_gamma / 2 * PENALTY_INTERVAL * penalty
        self.optimizer_d.zero_grad()
        total.backward()
        self.optimizer_d.step()

        # Generator: the same generated pictures, seen by the new discriminator, which is constant here.
        self.discriminator.requires_grad_(False)
        with autocast():
            on_fake_after = self.discriminator(augment(fake)).float()
            with torch.no_grad():
                on_real_after = self.discriminator(augment(real)).float() if recipe.loss == "relativistic" else on_real
        loss_g = losses.generator_loss(recipe.loss, on_real_after, on_fake_after)
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self.discriminator.requires_grad_(True)

        if recipe.ema_halflife_kimg:
            seen = (number + 1) * len(real)
            halflife = min(recipe.ema_halflife_kimg * 1000, seen * AVERAGE_RAMP_UP)
            update_average(self.average, self.generator, 0.5 ** (len(real) / halflife))
        with torch.no_grad():
            probabilities = (logits.sigmoid().mean() for logits in (on_real, on_fake, on_fake_after))
            return torch.stack([loss_d, loss_g, *probabilities, penalty]).detach()

    def _penalty(self, pictures: Tensor) -> Tensor:
        pictures = pictures.detach().requires_grad_(True)
        return losses.gradient_penalty(self.discriminator(pictures), pictures)

    def sampler(self, batches: int) -> Generator:
        """The generator that is sampled: averaged weights, BatchNorm statistics estimated anew."""
        copy = averaged_copy(self.average if self.recipe.ema_halflife_kimg else self.generator)
        latents = (
            draw_latents(self.settings, LATENTS_A_BATCH, random_state(self.recipe.seed, "batch norm", i))
            for i in range(batches)
        )
        estimate_batch_norm(copy, (batch.to(self.hardware.device) for batch in latents))
        return copy

    def state(self) -> dict[str, Tensor]:
        """Everything a step depends on, as named tensors on the CPU."""
        state: dict[str, Tensor] = {}
        for name in ("generator", "discriminator", "average"):
            state |= {f"{name}.{key}": value for key, value in getattr(self, name).state_dict().items()}
        for name in ("optimizer_g", "optimizer_d"):
            for index, values in getattr(self, name).state_dict()["state"].items():
                state |= {f"{name}.{index}.{key}": value for key, value in values.items()}
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes up what `state` returned."""
        for name in ("generator", "discriminator", "average"):
            prefix = f"{name}."
            mine = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
            getattr(self, name).load_state_dict(mine)
        for name in ("optimizer_g", "optimizer_d"):
            optimizer = getattr(self, name)
            parameters = optimizer.param_groups[0]["params"]
            values: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"{name}."):
                    _, index, field = key.split(".")
                    parameter = parameters[int(index)]
                    # A fused step walks through memory: moments have to lie as their parameter does.
                    like = value.shape == parameter.shape
                    moment = torch.empty_like(parameter).copy_(value) if like else value
                    values.setdefault(int(index), {})[field] = moment.detach()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": values})


def train(
    faces: Faces,
    settings: Settings,
    recipe: Recipe,
    hardware: Hardware,
    store: CheckpointStore,
    observer: Observer,
    stop: Callable[[], int | None],
    checkpoint_minutes: float = 2.0,
    log_interval: int = 50,
) -> Result:
    """Trains from the newest checkpoint of `store`, or from the start.

    Args:
        faces: uint8, (N, image_size, image_size, nc); may be memory maps.
        stop: asked after each step for the signal that wants the training to stop, or None.
        checkpoint_minutes: between checkpoints.
        log_interval: steps between two calls of the observer.

    Raises:
        UserError: there are fewer pictures than a batch, or a loss is no longer finite.
        Interrupted: `stop` returned a signal; the state is saved.
    """
    steps_per_epoch = len(faces) // recipe.batch_size
    if not steps_per_epoch:
        raise UserError(
            f"batch_size: {recipe.batch_size} is more than the {len(faces)} pictures that are trained on; lower it."
        )
    steps = recipe.epochs * steps_per_epoch
    trainer = Trainer(settings, recipe, hardware)
    history = torch.full((steps, len(COLUMNS)), math.nan, device=hardware.device)
    grid_latents = draw_latents(settings, GRID_PICTURES, random_state(recipe.seed, "grid"))

    grids = [store.folder / f"epoch_{epoch:05d}.png" for epoch in range(1, recipe.epochs + 1)]

    # Resume.
    done = 0
    if (found := store.latest()) and all(path.exists() for path in grids[: found[0] // steps_per_epoch]):
        done, state = found
        history[:done] = state.pop("history").to(hardware.device)
        trainer.load_state(state)

    def save(step: int) -> None:
        store.save(step, {**trainer.state(), "history": history[:step].cpu()})

    started = last_save = time.monotonic()
    first, logged = done, done - done % log_interval
    latest: dict[str, float] = {}
    real = batches(faces, recipe.batch_size, recipe.seed, done, steps, hardware.device)
    for step in progress(range(done, steps), steps, "training", "steps", done, lambda: _describe(latest)):
        history[step] = trainer.step(step, next(real))
        done = step + 1

        # Log.
        if done % log_interval == 0 or done == steps:
            values = dict(zip(COLUMNS, history[logged:done].nanmean(dim=0).tolist(), strict=True))
            if math.isnan(values["penalty"]):  # taken at none of these steps
                del values["penalty"]
            if not (history[logged:done, :-1].isfinite().all() and all(map(math.isfinite, values.values()))):
                raise UserError(
                    f"loss: it is no longer finite between steps {logged} and {done}; try a lower lr, "
                    "a higher r1_gamma, or precision: fp32."
                )
            observer.losses(done, values)
            logged = done
            latest.update(values)

        # View the fixed latents.
        if done % steps_per_epoch == 0:
            epoch = done // steps_per_epoch
            sheet = grid(generate(trainer.sampler(GRID_BATCHES), grid_latents), columns=8)
            save_png(grids[epoch - 1], sheet)
            observer.grid(done, sheet)

        # Save.
        if signal := stop():
            save(done)
            raise Interrupted(signal)
        if time.monotonic() - last_save > checkpoint_minutes * 60:
            save(done)
            last_save = time.monotonic()

    seconds = time.monotonic() - started
    if done > first:
        save(done)
    return Result(
        generator=trainer.sampler(FINAL_BATCHES).cpu(),
        discriminator=trainer.discriminator.cpu(),
        history=history.cpu().numpy(),
        grids=grids,
        speed={"images_per_second": (done - first) * recipe.batch_size / seconds} if done > first else {},
    )


def _describe(values: dict[str, float]) -> str:
    """The losses as the DCGAN tutorials print them."""
    text = "Loss_D {d_loss:.3f} Loss_G {g_loss:.3f} D(x) {d_real:.3f} D(G(z)) {d_fake_before:.3f} / {d_fake_after:.3f}"
    return text.format(**values) if values else ""


def loss_table(history: npt.NDArray[np.float32], most_rows: int = 1000) -> list[dict[str, float]]:
    """The history in at most `most_rows` rows, each the mean of its window of steps; for plots.

    The penalty, which most steps do not take, is the mean of those that do, or NaN.
    """
    window = math.ceil(len(history) / most_rows)
    rows = []
    for start in range(0, len(history), window):
        part = history[start : start + window]
        taken = ~np.isnan(part)
        sums, counts = np.where(taken, part, 0).sum(axis=0, dtype=np.float64), taken.sum(axis=0)
        values = np.divide(sums, counts, out=np.full(len(COLUMNS), np.nan), where=counts > 0)
        rows.append({"step": start + len(part)} | dict(zip(COLUMNS, values.tolist(), strict=True)))
    return rows
