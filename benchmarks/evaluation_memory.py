"""How much memory an evaluation of many samples takes beyond the networks.

    python benchmarks/evaluation_memory.py --samples 50000

A feature network of Inception's 2,048 features that costs next to nothing stands in for Inception, whose own
activations are not asked for. What a process holds of its own (RssAnon) is looked at every 20 ms; mapped files do not
count.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dcgan.metrics import evaluation, frechet, reference
from dcgan.metrics.feature_networks import FeatureNetwork
from dcgan.networks import Generator, Settings
from dcgan.system import hardware

DIMENSIONS = 2048


class Projection(nn.Module):
    """A random projection of the pictures at 16x16."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(3 * 16 * 16, DIMENSIONS), requires_grad=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures, 16).flatten(1) @ self.weights


def held_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--draws", type=int, default=2)
    arguments = parser.parse_args()
    hardware.prepare()
    network = FeatureNetwork("inception", "0" * 64, Projection(), DIMENSIONS)
    generator = Generator(Settings(ngf=8)).eval()
    random = np.random.default_rng(1)
    peak, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, held_mb())

    with tempfile.TemporaryDirectory() as folder:
        faces = random.integers(0, 256, (arguments.samples, 64, 64, 3), np.uint8)
        np.save(Path(folder) / "faces.npy", faces)
        features = np.lib.format.open_memmap(
            Path(folder) / "features.npy", "w+", np.float32, (arguments.samples, DIMENSIONS)
        )
        moments = frechet.Moments()
        for start in range(0, arguments.samples, 1000):
            batch = network.features(torch.from_numpy(faces[start : start + 1000]))
            features[start : start + 1000] = batch.numpy()
            moments.add(batch)
        del faces
        mapped = np.load(Path(folder) / "faces.npy", mmap_mode="r")
        real = reference.Reference(moments.statistics(), np.array(features[: reference.COMPARED]))
        start_mb = held_mb()
        watcher = threading.Thread(target=watch)
        watcher.start()
        training = evaluation.Training(mapped, features, without_test=True)
        samples, draws = arguments.samples, arguments.draws
        evaluation.evaluate(generator, network, lambda _: real, "train", samples, draws, 1, training)
        over.set()
        watcher.join()
    print(f"{draws} draws of {samples} samples: {peak - start_mb:.0f} MB beyond the start")


if __name__ == "__main__":
    main()
