"""Part of `make bench`: the speed of a training step, beside the tutorial's loop and beside the least that it can take.

All sides alternate in one run, so that a ratio holds on a noisy machine; the medians are printed. The tutorial's
loop runs in a process of its own, without what this project sets up for its own. On a CPU the least is that of
floor.py, on a GPU that of roofline.py.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from floor import floor
from roofline import Rates, Roofline, rates

from dcgan.networks import Settings
from dcgan.system import hardware
from dcgan.system.hardware import Hardware
from dcgan.training.graphs import WARM_UP
from dcgan.training.step import Recipe, Trainer

ROUNDS = 9
TUTORIAL = Settings(ngf=64, ndf=64), Recipe(batch_size=128)
# The default's networks and loss in batches that suit a GPU, and the same with the tutorial's widths and batch.
DEFAULT = (
    Settings(ngf=32, ndf=32, discriminator_norm="none"),
    Recipe(batch_size=64, lr=1e-3, beta1=0.0, beta2=0.99, loss="relativistic", r1_gamma=0.3, ema_halflife_kimg=2.0),
)
WIDE = replace(DEFAULT[0], ngf=64, ndf=64), replace(DEFAULT[1], batch_size=128)


class Tutorial:
    """The tutorial's loop in its process: steps when it is told, and the seconds that one took."""

    def __init__(self, width: int, batch_size: int, device: torch.device) -> None:
        script = Path(__file__).parent / "tutorial_loop.py"
        command = [sys.executable, str(script), str(width), str(batch_size), str(device)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def step(self, steps: int) -> float:
        assert self._process.stdin and self._process.stdout
        print(steps, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@dataclass(frozen=True)
class Speed:
    """Milliseconds a step and pictures a second; how many times the tutorial's loop; the least milliseconds."""

    step_ms: float
    pictures_per_second: float
    tutorial_pictures_per_second: float
    ratio_to_tutorial: float
    least_ms: float
    share_of_least: float  # least_ms / step_ms
    peak_memory_mb: float | None  # of the GPU


def measured(
    settings: Settings, recipe: Recipe, machine: Hardware, peaks: Rates | None, rounds: int, steps: int
) -> Speed:
    """Times `steps` steps of ours, beginning with one that has penalties, and of the tutorial's, in turns."""
    device = machine.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    drawn = torch.rand(recipe.batch_size, settings.nc, settings.image_size, settings.image_size) * 2 - 1
    real = drawn.to(device, memory_format=torch.channels_last)
    trainer = Trainer(settings, recipe, machine)

    def ours() -> float:
        hardware.finish(machine)
        start = time.perf_counter()
        for number in range(steps):
            trainer.step(number, real)
        hardware.finish(machine)
        return (time.perf_counter() - start) / steps

    tutorial = Tutorial(settings.ngf, recipe.batch_size, device)
    for number in range((WARM_UP + 1) * recipe.r1_interval if device.type == "cuda" else 1):
        trainer.step(number, real)
    tutorial.step(steps)
    times = [(ours(), tutorial.step(steps)) for _ in range(rounds)]
    tutorial.close()
    step, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    if peaks is None:
        least = floor(settings, recipe.batch_size, torch.bfloat16 if machine.precision == "bf16" else torch.float32)
    else:
        plain = Trainer(settings, recipe, replace(machine, graphs=False))
        with Roofline(peaks) as roof:
            for number in range(recipe.r1_interval):
                plain.step(number, real)
        least = roof.seconds / recipe.r1_interval
    return Speed(
        1000 * step, recipe.batch_size / step, recipe.batch_size / theirs,
        statistics.median(their / our for our, their in times), 1000 * least, least / step, peak,
    )  # fmt: skip


def main() -> None:
    machine = hardware.resolve("auto", "auto")
    hardware.prepare()
    print(hardware.describe(machine))
    on_gpu = machine.device.type == "cuda"
    cases = {"the tutorial's recipe": TUTORIAL} | ({"default": DEFAULT, "default, wide": WIDE} if on_gpu else {})
    peaks = rates(machine.device) if on_gpu else None
    for name, (settings, recipe) in cases.items():
        for precision in sorted({machine.precision, "fp32"}):
            speed = measured(settings, recipe, Hardware(machine.device, precision), peaks, ROUNDS, 32 if on_gpu else 1)
            print(
                f"{name}, {precision}: {speed.pictures_per_second:.0f} pictures/s, the tutorial's loop "
                f"{speed.tutorial_pictures_per_second:.0f}, ratio {speed.ratio_to_tutorial:.2f}; "
                f"a step {speed.step_ms:.3g} ms, at least {speed.least_ms:.3g} ms, share {speed.share_of_least:.2f}"
            )


if __name__ == "__main__":
    main()
