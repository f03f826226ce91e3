"""One training step: networks, losses, penalties, optimizers and averaged weights.

All random values depend only on (seed, purpose, step) and are drawn for the batch of all ranks. A resumed training is
therefore the same as an uninterrupted one, and more ranks split the same batch.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcgan.networks import Generator, Settings, averaged_copy, build, update_average
from dcgan.networks.casting import CastAtOnce
from dcgan.sampling import derived_seed, draw_latents, random_state, refresh_batch_norm
from dcgan.system.choices import Loss
from dcgan.system.hardware import Hardware, tf32
from dcgan.system.ranks import ALONE, Ranks
from dcgan.training import losses, schedules
from dcgan.training.augment import diff_augment
from dcgan.training.gradient_penalty import gradient_penalty
from dcgan.training.graphs import Graphed

# What is recorded of each step. The penalty is NaN at steps that do not compute it.
COLUMNS = ("d_loss", "g_loss", "d_real", "d_fake_before", "d_fake_after", "penalty")


@dataclass(frozen=True)
class Recipe:
    """How to train: the params.yaml keys of the same names. The defaults are those of PyTorch's DCGAN tutorial."""

    seed: int = 1
    epochs: int = 5
    batch_size: int = 128
    lr: float = 2e-4
    lr_discriminator: float | None = None
    lr_warmup_kimg: float = 0.0
    lr_decay: float = 1.0
    beta1: float = 0.5
    beta2: float = 0.999
    loss: Loss = "bce"
    label_smoothing: float = 0.0
    r1_gamma: float = 0.0
    r1_gamma_end: float | None = None
    r1_interval: int = 8
    ema_halflife_kimg: float = 0.0
    ema_rampup: float = 0.05
    mirror: bool = False
    augment: bool = False

    @property
    def depends_on_its_end(self) -> bool:
        """Whether a step depends on the number of epochs, through a schedule that ends with the training."""
        return self.lr_decay != 1 or self.r1_gamma_end not in (None, self.r1_gamma)


class Trainer:
    """The networks, optimizers and averaged weights, which each step updates.

    Args:
        steps: number of steps of the whole training, for the recipe's schedules; None: they stay at their first values.
    """

    def __init__(
        self,
        settings: Settings,
        recipe: Recipe,
        hardware: Hardware,
        ranks: Ranks = ALONE,
        steps: int | None = None,
    ) -> None:
        self._steps = steps or math.inf
        self.settings, self.recipe, self.hardware, self.ranks = settings, recipe, hardware, ranks
        generator, discriminator = build(settings, random_state(recipe.seed, "weights"))
        self.generator = generator.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if (coarse := discriminator.coarse) is not None:  # groups that hold no real beside generated pictures
            coarse.group = math.gcd(coarse.group, recipe.batch_size // ranks.count)
        self.average = averaged_copy(self.generator)
        for module in self.generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False  # `sampler` estimates the statistics anew
        self._generated = ranks.synchronised(CastAtOnce(self.generator))
        self._judge = CastAtOnce(self.discriminator)
        self._judged = ranks.synchronised(_OnBoth(self._judge, settings.discriminator_norm == "none"))
        self._random = torch.Generator(hardware.device)  # of the augmentation; seeded for each step
        on_gpu = hardware.device.type == "cuda"
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(
                network.parameters(), recipe.lr, (recipe.beta1, recipe.beta2), fused=True, capturable=on_gpu
            )
            for network in (self.generator, self.discriminator)
        )
        if on_gpu:  # tensors, since a number in a graph could not change
            for optimizer in (self.optimizer_g, self.optimizer_d):
                optimizer.param_groups[0]["lr"] = torch.zeros((), device=hardware.device)
        # Lists, since Module.parameters() takes a while, and a step needs them several times.
        self._weights_g, self._weights_d, self._averages = (
            list(network.parameters()) for network in (self.generator, self.discriminator, self.average)
        )
        self._written: dict[Tensor, float] = {}  # scalars on the device, and what was last written to them
        self._share, self._weight, self._one, self._nan = torch.tensor([0, 0, 1, math.nan], device=hardware.device)
        graphed = on_gpu and hardware.graphs and ranks.count == 1
        self._update = (
            Graphed(self._networks, hardware.device, self._forget_gradients_of_both) if graphed else self._networks
        )

    def step(self, number: int, real: Tensor) -> Tensor:
        """Updates the discriminator, then the generator.

        Args:
            number: index of the step, from 0.
            real: this rank's pictures in [-1, 1], (batch_size / ranks, nc, image_size, image_size).

        Returns:
            The values of COLUMNS, averaged over the ranks, on the device.
        """
        recipe, device = self.recipe, self.hardware.device
        batch_size = len(real) * self.ranks.count
        random = random_state(recipe.seed, "latents", number, device)
        latents = self.ranks.shard(draw_latents(self.settings, batch_size, random))
        self._random.manual_seed(derived_seed(recipe.seed, "augment", number))
        penalised = bool(recipe.r1_gamma) and number % recipe.r1_interval == 0
        seen = (number + 1) * batch_size
        halflife = schedules.halflife(seen, recipe.ema_halflife_kimg, recipe.ema_rampup) or math.inf
        self._write(self._share, 1 - 0.5 ** (batch_size / halflife))
        # The penalties are computed at few steps and scaled up (Karras et al. 2020, "StyleGAN2", section 3.1).
        self._write(self._weight, self._gamma(number) / 2 * recipe.r1_interval)
        self._set_lrs(number, seen)
        with tf32(self.hardware):
            return self._update(penalised, real, latents, self._share, self._weight)

    def _write(self, scalar: Tensor, value: float) -> None:
        """Writes a value to a scalar on the device, where it is not there already: each write is a kernel."""
        if self._written.get(scalar) != value:
            self._written[scalar] = value
            scalar.fill_(value)

    def _gamma(self, number: int) -> float:
        """Returns the weight of the penalties at a step."""
        first, last = self.recipe.r1_gamma, self.recipe.r1_gamma_end
        return schedules.cosine(first, first if last is None else last, number / self._steps)

    def _set_lrs(self, number: int, seen: int) -> None:
        """Sets the learning rates of a step, after which `seen` pictures will have been seen."""
        recipe = self.recipe
        risen = schedules.warm_up(seen, recipe.lr_warmup_kimg)
        share = risen * schedules.cosine(1.0, recipe.lr_decay, number / self._steps)
        lrs = recipe.lr, recipe.lr_discriminator or recipe.lr
        for optimizer, lr in zip((self.optimizer_g, self.optimizer_d), lrs, strict=True):
            (group,) = optimizer.param_groups
            if isinstance(group["lr"], Tensor):
                self._write(group["lr"], lr * share)
            else:
                group["lr"] = lr * share

    def _networks(self, penalised: bool, real: Tensor, latents: Tensor, share: Tensor, weight: Tensor) -> Tensor:
        """Updates the networks and the averaged weights. Never waits for the GPU.

        This may run only once as a CUDA graph is captured: all that differs between steps comes in as arguments, from
        the augmentation's generator, or in the optimizers' learning rates.

        Args:
            share: of the new weights in the averaged ones.
            weight: of the penalties, if the step is `penalised`.
        """
        recipe, device, ranks = self.recipe, self.hardware.device, self.ranks

        def augment(pictures: Tensor) -> Tensor:
            return diff_augment(pictures, self._random, ranks.rank, ranks.count) if recipe.augment else pictures

        def autocast() -> Any:
            bf16 = self.hardware.precision == "bf16"
            return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()

        # Discriminator: the generated pictures are constants here.
        with autocast():
            fake = self._generated(latents)
            on_real, on_fake = self._judged(augment(real), augment(fake.detach()))
        loss_d = losses.discriminator_loss(recipe.loss, on_real, on_fake, recipe.label_smoothing)
        penalty, total = self._nan, loss_d
        if penalised:
            penalty = self._penalties(augment(real), augment(fake.detach().float()))
            total = loss_d + weight * penalty
        _forget_gradients(self._weights_d)
        total.backward(self._one)
        self.optimizer_d.step()

        # Generator: the updated discriminator, constant here, sees the same generated pictures.
        _require_gradients(self._weights_d, False)
        with autocast():
            copies = self._judge.copies()
            on_fake_after, on_real_after = self._judge(augment(fake), copies).float(), on_real
            if recipe.loss == "relativistic":
                with torch.no_grad():
                    on_real_after = self._judge(augment(real), copies).float()
        loss_g = losses.generator_loss(recipe.loss, on_real_after, on_fake_after)
        _forget_gradients(self._weights_g)
        loss_g.backward(self._one)
        self.optimizer_g.step()
        _require_gradients(self._weights_d, True)

        if recipe.ema_halflife_kimg:
            update_average(self._averages, self._weights_g, share)
        with torch.no_grad():
            probabilities = torch.stack([on_real, on_fake, on_fake_after]).sigmoid().mean(dim=1)
            return ranks.all_reduce(torch.stack([loss_d, loss_g, *probabilities, penalty]))

    def _forget_gradients_of_both(self) -> None:
        _forget_gradients(self._weights_g + self._weights_d)

    def _penalties(self, real: Tensor, fake: Tensor) -> Tensor:
        """Returns the sum of the R1 penalty, on real pictures, and the R2 penalty, on generated ones."""

        def penalty(pictures: Tensor) -> Tensor:
            pictures = pictures.detach().requires_grad_(True)
            return gradient_penalty(self.discriminator(pictures), pictures)

        if self.settings.discriminator_norm == "none":
            return 2 * penalty(torch.cat([real, fake]))  # twice the mean over both
        return penalty(real) + penalty(fake)

    def _sampled(self) -> Generator:
        """Returns the generator with averaged weights if the recipe averages them, otherwise the trained one."""
        return self.average if self.recipe.ema_halflife_kimg else self.generator

    def weights(self) -> dict[str, Tensor]:
        """Returns a copy of the weights that are used for sampling, on the CPU."""
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self._sampled().state_dict().items()
        }

    def sampler(self, batches: int, weights: dict[str, Tensor] | None = None) -> Generator:
        """Returns a generator for sampling, with newly estimated BatchNorm statistics.

        Args:
            batches: number of batches of latents for the estimate.
            weights: used instead of the current weights, unless None or empty.
        """
        copy = averaged_copy(self._sampled())
        if weights:
            copy.load_state_dict(weights)
        refresh_batch_norm(copy, self.recipe.seed, batches)
        return copy

    def finite(self) -> bool:
        """Returns whether all weights and all optimizer moments are finite."""
        tensors: list[Tensor] = self._weights_g + self._weights_d
        for optimizer in (self.optimizer_g, self.optimizer_d):
            tensors += [value for state in optimizer.state.values() for value in state.values() if value.dim()]
        return bool(torch.stack(torch._foreach_norm(tensors)).isfinite().all())

    def state(self) -> dict[str, Tensor]:
        """Returns everything that a step depends on, as named tensors on the CPU."""
        state: dict[str, Tensor] = {}
        for name in ("generator", "discriminator", "average"):
            state |= {f"{name}.{key}": value for key, value in getattr(self, name).state_dict().items()}
        for name in ("optimizer_g", "optimizer_d"):
            for index, values in getattr(self, name).state_dict()["state"].items():
                state |= {f"{name}.{index}.{key}": value for key, value in values.items()}
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores a state that `state` returned."""
        for name in ("generator", "discriminator", "average"):
            prefix = f"{name}."
            weights = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
            getattr(self, name).load_state_dict(weights)
        for name in ("optimizer_g", "optimizer_d"):
            optimizer = getattr(self, name)
            parameters = optimizer.param_groups[0]["params"]
            values: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"{name}."):
                    _, index, field = key.split(".")
                    parameter = parameters[int(index)]
                    # The fused optimizer needs moments in the memory format of their parameter.
                    like = value.shape == parameter.shape
                    moment = torch.empty_like(parameter).copy_(value) if like else value
                    values.setdefault(int(index), {})[field] = moment.detach()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": values})


def _forget_gradients(weights: list[Tensor]) -> None:
    for weight in weights:
        weight.grad = None


def _require_gradients(weights: list[Tensor], required: bool) -> None:
    for weight in weights:
        weight.requires_grad_(required)


class _OnBoth(nn.Module):
    """Runs the discriminator on real and on generated pictures.

    They are one batch if there is no normalisation, which is faster. Otherwise they are two: BatchNorm's statistics
    are those of either kind, and spectral normalisation takes a step of its power iteration for each.
    This is one call, because DistributedDataParallel expects one forward pass for each backward pass.
    """

    def __init__(self, discriminator: CastAtOnce, in_one_batch: bool) -> None:
        super().__init__()
        self.discriminator, self._in_one_batch = discriminator, in_one_batch

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        if self._in_one_batch:
            on_real, on_fake = self.discriminator(torch.cat([real.to(fake.dtype), fake])).float().chunk(2)
            return on_real, on_fake
        return self.discriminator(real).float(), self.discriminator(fake).float()
