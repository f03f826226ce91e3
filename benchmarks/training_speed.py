"""Part of `make bench`: the speed of a training step, beside the tutorial's loop and beside the floor.

All sides alternate in one run, so that a ratio holds on a noisy machine; the medians are printed. The tutorial's
loop runs in a process of its own, without what this project sets up for its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from floor import floor

from dcgan.networks import Settings
from dcgan.system import hardware
from dcgan.system.hardware import Hardware
from dcgan.training.step import Recipe, Trainer

ROUNDS = 9
WIDTH, BATCH = 64, 128
SETTINGS = Settings(ngf=WIDTH, ndf=WIDTH)
RECIPE = Recipe(batch_size=BATCH)


class Tutorial:
    """The tutorial's loop in its process: a step when it is told, and the seconds that it took."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).parent / "tutorial_loop.py"), str(WIDTH), str(BATCH)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def step(self) -> float:
        assert self._process.stdin and self._process.stdout
        print("step", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    machine = hardware.resolve(0, "auto")
    hardware.prepare()
    print(hardware.describe(machine))
    real = (torch.rand(BATCH, 3, 64, 64) * 2 - 1).contiguous(memory_format=torch.channels_last)
    tutorial = Tutorial()
    for precision in sorted({machine.precision, "fp32"}):
        trainer = Trainer(SETTINGS, RECIPE, Hardware(machine.device, precision))

        def step(number: int, trainer: Trainer = trainer) -> float:
            start = time.perf_counter()
            trainer.step(number, real)
            return time.perf_counter() - start

        step(0), tutorial.step()  # warm up
        times = [(step(number), tutorial.step()) for number in range(1, ROUNDS + 1)]
        ours, theirs = (statistics.median(side) for side in zip(*times, strict=True))
        ratio = statistics.median(plain / mine for mine, plain in times)
        least = floor(SETTINGS, BATCH, torch.bfloat16 if precision == "bf16" else torch.float32)
        print(
            f"{precision}: {BATCH / ours:.0f} pictures/s, the tutorial's loop {BATCH / theirs:.0f}, ratio {ratio:.2f}; "
            f"a step {1000 * ours:.0f} ms, its floor {1000 * least:.0f} ms, ratio {ours / least:.2f}"
        )
    tutorial.close()


if __name__ == "__main__":
    main()
