"""Part of `make bench`: the Frechet distance of two folders, beside pytorch-fid's command line.

    python benchmarks/evaluation_speed.py --pictures 2500 --rounds 1

Whole commands, start and file reading included, that alternate in one run; the medians are printed. The weights are
drawn at random, which changes neither speed nor the agreement of the two numbers; pytorch-fid finds them where it
keeps its download. Then the distance alone, beside scipy's sqrtm, of statistics of 2,048 dimensions.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from drawn_inception import draw_weights
from pytorch_fid.fid_score import calculate_frechet_distance

from dcgan.data.images import save_png
from dcgan.metrics.frechet import Moments, Statistics, frechet_distance
from dcgan.metrics.weights import INCEPTION

DIMENSIONS = 2048


def draw_pictures(folder: Path, count: int, seed: int, roughness: int) -> None:
    """Smooth colours of 64x64, and noise on them."""
    random = np.random.default_rng(seed)
    for number in range(count):
        coarse = random.uniform(0, 255, (roughness, roughness, 3)).repeat(64 // roughness, 0).repeat(64 // roughness, 1)
        picture = coarse + random.normal(0, 10, coarse.shape)
        save_png(folder / f"{number:05d}.png", picture.clip(0, 255).astype(np.uint8))


def run(command: list[str], home: Path) -> tuple[float, float]:
    """The seconds that a command takes, and the distance that it prints."""
    start = time.perf_counter()
    environment = os.environ | {"TORCH_HOME": str(home), "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor")}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, check=True, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found = re.search(r"(?:FID|distance): +([-\d.e]+)", done.stdout)
    assert found, done.stdout
    return time.perf_counter() - start, float(found[1])


def whole_commands(pictures: int, rounds: int, device: torch.device, compiled: bool = False) -> dict[str, str]:
    """Returns, for each command, its speed and how far its distance is from pytorch-fid's.

    Args:
        compiled: whether ours also runs with --compile, if there is a compiler.
    """
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        weights = home / "hub" / "checkpoints" / INCEPTION.name
        draw_weights(weights)
        folders = [home / name for name in ("a", "b")]
        for seed, folder in enumerate(folders):
            draw_pictures(folder, pictures, seed, 8 * 2**seed)
        names = [str(folder) for folder in folders]
        ours = ["dcgan", "distance", *names, "--weights", str(weights)]
        sides = {"pytorch-fid": ["pytorch_fid", *names, "--device", str(device)], "ours": ours}
        if compiled and any(map(shutil.which, ("c++", "g++", "clang++"))):
            sides["ours, compiled"] = [*ours, "--compile"]
            few = home / "few"
            draw_pictures(few, 64, 2, 8)
            run(
                ["dcgan", "distance", str(few), str(few), *sides["ours, compiled"][4:]], home
            )  # what is compiled is kept
        results = [{side: run(command, home) for side, command in sides.items()} for _ in range(rounds)]
    said = {}
    for side in sides:
        seconds = statistics.median(result[side][0] for result in results)
        ratio = statistics.median(result["pytorch-fid"][0] / result[side][0] for result in results)
        theirs = results[0]["pytorch-fid"][1]
        apart = abs(results[0][side][1] - theirs) / theirs
        said[side] = (
            f"{2 * pictures / seconds:.2f} pictures/s, {ratio:.2f} times pytorch-fid; "
            f"distance {results[0][side][1]:.10g}, {apart:.1e} from its"
        )
    return said


def drawn(seed: int) -> Statistics:
    moments, random = Moments(), torch.Generator().manual_seed(seed)
    scale = torch.linspace(0.1, 1, DIMENSIONS)
    moments.add(torch.randn(2 * DIMENSIONS, DIMENSIONS, generator=random) * scale + seed * 0.01)
    return moments.statistics()


def distances(rounds: int) -> None:
    a, b = drawn(1), drawn(2)
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        ours = frechet_distance(a, b)
        between = time.perf_counter()
        theirs = float(calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance))
        ratios.append((time.perf_counter() - between) / (between - start))
    print(
        f"the distance alone: {statistics.median(ratios):.1f} times as fast as by sqrtm, "
        f"{abs(ours - theirs) / theirs:.1e} from it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=250, help="in each folder")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for side, said in whole_commands(arguments.pictures, arguments.rounds, torch.device("cpu"), compiled=True).items():
        print(f"{side}: {said}")
    distances(arguments.rounds)


if __name__ == "__main__":
    main()
