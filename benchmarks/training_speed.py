"""Part of `make bench`: the speed of a training step, beside the plain way to do it.

Both sides alternate in one run, so that a ratio holds on a noisy machine; the medians are printed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from dcgan import hardware
from dcgan.networks import Discriminator, Generator, Settings, build
from dcgan.sampling import random_state
from dcgan.trainer import Recipe, Trainer

ROUNDS = 5
BATCH = 128
SETTINGS = Settings(ngf=64, ndf=64)
RECIPE = Recipe(
    seed=1, epochs=1, batch_size=BATCH, lr=2e-4, lr_discriminator=None, beta1=0.5, beta2=0.999, loss="bce",
    label_smoothing=0.0, r1_gamma=0.0, ema_halflife_kimg=0.0, augment=False,
)  # fmt: skip


def alternate(name: str, count: int, ours: Callable[[], object], plain: Callable[[], object]) -> None:
    """Times both in turn and prints pictures a second and the ratio."""
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    ours(), plain()  # warm up
    for _ in range(ROUNDS):
        for side, function in (("ours", ours), ("plain", plain)):
            start = time.perf_counter()
            function()
            seconds[side].append(time.perf_counter() - start)
    rates = {side: count / statistics.median(times) for side, times in seconds.items()}
    ratio = statistics.median(p / o for o, p in zip(seconds["ours"], seconds["plain"], strict=True))
    print(f"{name}: {rates['ours']:.0f} pictures/s, plain {rates['plain']:.0f}, ratio {ratio:.2f}")


class ReferenceLoop:
    """The loop of the DCGAN tutorials: float32, NCHW, separate passes, losses read at every step."""

    def __init__(self) -> None:
        generator, discriminator = build(SETTINGS, random_state(1, "weights"))
        self.generator: Generator = generator
        self.discriminator: Discriminator = discriminator
        self.optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (generator, discriminator)]
        self.criterion = nn.BCEWithLogitsLoss()

    def step(self, real: torch.Tensor) -> float:
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        optimizer_g, optimizer_d = self.optimizers
        self.discriminator.zero_grad()
        loss_real = self.criterion(self.discriminator(real), ones)
        loss_real.backward()
        fake = self.generator(torch.randn(len(real), SETTINGS.nz, 1, 1))
        loss_fake = self.criterion(self.discriminator(fake.detach()), zeros)
        loss_fake.backward()
        optimizer_d.step()
        self.generator.zero_grad()
        loss_g = self.criterion(self.discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()
        return float((loss_real + loss_fake + loss_g).item())


def main() -> None:
    torch.use_deterministic_algorithms(True)
    hardware.keep_memory()
    machine = hardware.resolve(0, "auto")
    print(hardware.describe(machine))
    real = torch.rand(BATCH, 3, 64, 64) * 2 - 1
    trainer, reference = Trainer(SETTINGS, RECIPE, machine), ReferenceLoop()
    channels_last = real.contiguous(memory_format=torch.channels_last)
    alternate("training step", BATCH, lambda: trainer.step(0, channels_last), lambda: reference.step(real))


if __name__ == "__main__":
    main()
