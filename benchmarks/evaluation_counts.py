"""The scores at the counts of the preset celeba, given the features: time, memory, and agreement with slower code.

    python benchmarks/evaluation_counts.py

The Frechet distance of 50,000 features to 162,770, the scores of 10,000 pairs, and the nearest of all for 10,000, in
2,048 dimensions. The features are drawn: positive, skewed and correlated, as those of a network are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from prdc import compute_prdc
from pytorch_fid.fid_score import calculate_frechet_distance
from sampled import sampled

from dcgan.metrics import kernel, neighbours
from dcgan.metrics.collecting import statistics_of
from dcgan.metrics.frechet import Statistics, frechet_distance
from dcgan.metrics.reference import COMPARED, Features

DIMENSIONS, REAL, GENERATED, BLOCK = 2048, 162_770, 50_000, 1000
CHECKED = 100  # rows whose nearest are searched in float64 too


def draw(path: Path, count: int, seed: int, shift: float) -> Features:
    """Writes drawn features, and opens them as a memory map (count, DIMENSIONS)."""
    factors = np.random.default_rng(0).normal(size=(64, DIMENSIONS)).astype(np.float32) / 8
    random = np.random.default_rng(seed)
    features = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIMENSIONS))
    for start in range(0, count, BLOCK):
        rows = min(BLOCK, count - start)
        block = random.normal(size=(rows, 64)).astype(np.float32) @ factors
        block += random.normal(shift, 0.3, size=(rows, DIMENSIONS)).astype(np.float32)
        features[start : start + rows] = np.logaddexp(block, 0) / 2
    features.flush()
    opened: Features = np.load(path, mmap_mode="r")
    return opened


def anonymous() -> int:
    """The memory of this process in bytes, without mapped files."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def timed(what: str, function: Callable[[], object]) -> object:
    start, before = time.perf_counter(), anonymous()
    with sampled(anonymous) as samples:
        result = function()
    more = max(0, max(samples, default=0) - before) / 1e9
    print(f"{what}: {time.perf_counter() - start:.0f} s, {more:.2f} GB more than the features", flush=True)
    return result


def brute(of: Features, among: Features) -> npt.NDArray[np.float64]:
    """The distances of a few rows to their nearest, in float64, one block of pairs at a time."""
    best = np.full(len(of), np.inf)
    for start in range(0, len(among), BLOCK):
        block = among[start : start + BLOCK].astype(np.float64)
        for i, row in enumerate(of.astype(np.float64)):
            best[i] = min(best[i], np.square(block - row).sum(1).min())
    return np.sqrt(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the counts, to try it")
    share = parser.parse_args().share
    with tempfile.TemporaryDirectory() as folder:
        real = draw(Path(folder, "real.npy"), int(REAL * share), 1, 0.0)
        made = draw(Path(folder, "generated.npy"), int(GENERATED * share), 2, 0.05)
        few = min(COMPARED, len(made))
        first, theirs = np.array(made[:few]), np.array(real[:few])
        begun = time.perf_counter()
        sides: list[Statistics] = []
        timed("statistics", lambda: sides.extend(map(statistics_of, (made, real))))
        distance = timed("Frechet distance", lambda: frechet_distance(*sides))
        scores = timed("precision, recall, density, coverage", lambda: neighbours.scores(theirs, first))
        timed("kernel distance", lambda: kernel.kernel_distance(first, theirs))
        found = timed(f"nearest of {few} among all", lambda: neighbours.nearest(first, real))
        print(f"together {time.perf_counter() - begun:.0f} s", flush=True)

        a, b = sides
        slow = float(calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance))
        print(f"distance {distance:.9g}, by sqrtm {slow:.9g}, {abs(distance - slow) / slow:.1e} apart")  # type: ignore[operator]
        expected = brute(first[:CHECKED], real)
        apart = np.abs(found[1][:CHECKED, 0] - expected).max() / expected.max()  # type: ignore[index]
        print(f"nearest of {CHECKED}: at most {apart:.1e} from float64 throughout")
        known = [compute_prdc(theirs, first, k) for k in (3, 5)]
        names = ("precision", known[0]), ("recall", known[0]), ("density", known[1]), ("coverage", known[1])
        apart = max(abs(getattr(scores, name) - of[name]) for name, of in names)
        print(f"{scores}, at most {apart:.1e} from prdc's")


if __name__ == "__main__":
    main()
