"""The plain way to train a DCGAN, as the tutorials describe it: what this project's loop is measured beside."""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor, nn

from dcgan.networks import Discriminator, Generator, Settings, build
from dcgan.sampling import random_state

CPU = torch.device("cpu")


class TutorialLoop:
    """Float32, NCHW, Adam without fusing, separate passes, losses read at every step; the paper's recipe."""

    def __init__(self, settings: Settings, seed: int, device: torch.device = CPU) -> None:
        generator, discriminator = build(settings, random_state(seed, "weights"))
        self.settings = settings
        self.generator: Generator = generator.to(device)
        self.discriminator: Discriminator = discriminator.to(device)
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for network in (generator, discriminator)
        )
        self.criterion = nn.BCEWithLogitsLoss()
        self.random = torch.Generator(device).manual_seed(seed)

    def step(self, real: Tensor) -> tuple[float, float]:
        """One step on pictures (N, nc, image_size, image_size) in [-1, 1]; the losses of both networks."""
        device = real.device
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
        # Discriminator: maximise log D(x) + log(1 - D(G(z))).
        self.discriminator.zero_grad()
        loss_real = self.criterion(self.discriminator(real), ones)
        loss_real.backward()
        fake = self.generator(torch.randn(len(real), self.settings.nz, 1, 1, generator=self.random, device=device))
        loss_fake = self.criterion(self.discriminator(fake.detach()), zeros)
        loss_fake.backward()
        self.optimizer_d.step()
        # Generator: maximise log D(G(z)).
        self.generator.zero_grad()
        loss_g = self.criterion(self.discriminator(fake), ones)
        loss_g.backward()
        self.optimizer_g.step()
        return (loss_real + loss_fake).item(), loss_g.item()


def main() -> None:
    """Takes as many steps as each line that comes in says, and answers with the seconds of one; in its own process."""
    width, batch_size, device = int(sys.argv[1]), int(sys.argv[2]), torch.device(sys.argv[3])
    torch.backends.cudnn.benchmark = True  # as the examples do; with it, cuDNN may also use TF32, torch's default
    loop = TutorialLoop(Settings(ngf=width, ndf=width), seed=1, device=device)
    real = (torch.rand(batch_size, 3, 64, 64) * 2 - 1).to(device)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            print(loop.step(real), file=sys.stderr)
        print((time.perf_counter() - start) / int(line), flush=True)


if __name__ == "__main__":
    main()
