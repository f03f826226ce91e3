"""How long a training takes to a Frechet distance: the tutorial's loop with the paper's recipe, or params.yaml.

    dvc repro crop reference
    python benchmarks/time_to_distance.py tutorial --seed 1
    python benchmarks/time_to_distance.py ours --minutes 4 --every 1 --seed 1 -S lr=0.0005 -S augment=true

The clock runs while steps are taken, and stands still while the distance is measured. Widths, batch, data and
evaluation are those of params.yaml on both sides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from tutorial_loop import TutorialLoop

from dcgan import params
from dcgan.data import images
from dcgan.metrics import feature_networks, reference, weights
from dcgan.metrics.collecting import collect
from dcgan.metrics.frechet import frechet_distance
from dcgan.networks import Generator, Settings, averaged_copy, estimate_batch_norm
from dcgan.sampling import BATCH_NORM_BATCH, draw_latents, generate, generated, random_state
from dcgan.system import hardware
from dcgan.system.progress import say
from dcgan.training.batches import batches
from dcgan.training.loop import FINAL_BATCHES
from dcgan.training.step import Recipe, Trainer

CPU = torch.device("cpu")
Side = tuple[Callable[[int, Tensor], object], Callable[[], Generator]]  # a step; the generator to be sampled


def tutorial(settings: Settings, seed: int) -> Side:
    """With BatchNorm in the discriminator, whatever params.yaml says; its statistics estimated as ours are."""
    loop = TutorialLoop(Settings(**{**settings.__dict__, "discriminator_norm": "batch"}), seed)

    def sampled() -> Generator:
        copy = averaged_copy(loop.generator)
        latents = (draw_latents(settings, BATCH_NORM_BATCH, random_state(seed, "b", i)) for i in range(FINAL_BATCHES))
        estimate_batch_norm(copy, latents)
        return copy

    return lambda number, real: loop.step(real), sampled


def ours(settings: Settings, recipe: Recipe) -> Side:
    machine = hardware.resolve(0, "auto")
    hardware.prepare()
    trainer = Trainer(settings, recipe, machine)
    return trainer.step, lambda: trainer.sampler(FINAL_BATCHES)


def measured(
    side: Side, real: Iterator[Tensor], seconds: float, every: float, rate: float | None
) -> Iterator[tuple[float, Generator]]:
    """Trains for `seconds`, and yields the clock and the generator after each `every` seconds."""
    step, sampled = side
    clock = 0.0
    for number, batch in enumerate(real):
        start = time.perf_counter()
        step(number, batch)
        before, clock = clock, clock + (1 / rate if rate else time.perf_counter() - start)
        if clock // every > before // every:
            yield clock, sampled()
        if clock >= seconds:
            return


def yaml_values(changes: dict[str, str]) -> dict[str, Any]:
    return {key: yaml.safe_load(value) for key, value in changes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("tutorial", "ours"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=2.0, help="minutes between two measurements")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="as dvc exp run")
    parser.add_argument("--pictures", type=Path, help="a PNG of 64 pictures at the end")
    parser.add_argument("--rate", type=float, help="steps that count as a second, where other work disturbs the clock")
    arguments = parser.parse_args()

    changes = dict(change.split("=", 1) for change in arguments.changes)
    p = params.validate({**params.load(Path("params.yaml")).model_dump(), **yaml_values(changes)})
    settings, recipe = p.part(Settings), replace(p.part(Recipe), seed=arguments.seed)
    network = feature_networks.load(p.fid_network, weights.find(p.fid_network, Path("data/weights")), CPU)
    real = reference.load(Path("data/reference"), network)(p.fid_split)
    assert real is not None
    side = tutorial(settings, arguments.seed) if arguments.side == "tutorial" else ours(settings, recipe)
    faces = images.open_faces(Path("data/faces"), "train")
    stream = batches(faces, recipe.batch_size, arguments.seed, 0, 10**9, CPU, mirror=recipe.mirror)
    grid_latents = draw_latents(settings, 64, random_state(arguments.seed, "samples"))
    if arguments.side == "tutorial":
        stream = (batch.contiguous() for batch in stream)
    minutes = arguments.minutes * 60, arguments.every * 60
    for clock, generator in measured(side, stream, *minutes, arguments.rate):
        drawn = collect(network, generated(generator, arguments.seed), p.fid_samples, "generated faces")
        distance = frechet_distance(drawn, real.statistics)
        if arguments.pictures:
            images.save_png(arguments.pictures, images.grid(generate(generator, grid_latents), columns=8))
        say(f"{arguments.side} {changes or ''}, seed {arguments.seed}: {clock:.0f} s, distance {distance:.1f}")


if __name__ == "__main__":
    main()
