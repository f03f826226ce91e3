"""How near projection comes: faces of this folder's generator, whose latents exist, and real test faces.

    dvc repro train
    python benchmarks/projection.py

For each picture, the mean absolute error in levels of 0..255, the seconds that the projection took, and those of
processor time, which other programs on the machine do not change much.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from dcgan import networks, sampling
from dcgan.data import images
from dcgan.exploring.projection import project
from dcgan.system import hardware
from dcgan.system.project_files import FACES, GENERATOR


def measure(generator: networks.Generator, what: str, pictures: images.Pixels, first_layer: bool) -> None:
    errors, seconds, busy = [], [], []
    for picture in pictures:
        start, processor = time.perf_counter(), time.process_time()
        errors.append(project(generator, picture, first_layer=first_layer).error)
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - processor)
    print(f"{what}, first layer {'free' if first_layer else 'from the latent'}: {len(errors)} pictures")
    for name, values in (("error", errors), ("seconds", seconds), ("processor seconds", busy)):
        print(f"  {name}: mean {np.mean(values):.2f}, median {np.median(values):.2f}, largest {np.max(values):.2f}")
    print("  errors: " + " ".join(f"{error:.2f}" for error in errors), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="pictures of each kind; default: 20")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the generated faces; default: 1000")
    options = parser.parse_args()
    hardware.prepare()
    generator = networks.load_generator(GENERATOR)
    made = sampling.generate(
        generator, sampling.numbered_latents(generator.settings, options.seed, slice(0, options.count))
    )
    test = images.choose(images.open_faces(Path(FACES), "test"), options.count, options.seed)
    print(f"{torch.get_num_threads()} threads")
    measure(generator, "generated faces", made, first_layer=False)
    measure(generator, "test faces", test, first_layer=False)
    measure(generator, "test faces", test, first_layer=True)


if __name__ == "__main__":
    main()
