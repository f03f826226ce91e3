"""A cheap Frechet distance while a training goes on: to see its course and to keep its best generator.

With EfficientNet-Lite0 and few pictures, so that it is to be compared within a training alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dcgan.data.images import Faces
from dcgan.metrics import weights
from dcgan.metrics.collecting import collect, of_faces
from dcgan.metrics.feature_networks import load
from dcgan.metrics.frechet import frechet_distance
from dcgan.networks import Generator
from dcgan.sampling import generated, random_state

SAMPLES = 1500  # a side, at most
_DRAW = 1_000_000  # of latents, apart from those of the evaluation: what is chosen by some is not measured by them


def quick_distance(faces: Faces, seed: int, device: torch.device) -> Callable[[Generator], float]:
    """What measures the distance of a generator's faces, the same latents each time, to some that are trained on."""
    network = load("efficientnet_lite0", weights.packaged(), device)
    chosen = torch.randperm(len(faces), generator=random_state(seed, "quick distance"))[:SAMPLES]
    some = faces[np.sort(chosen.numpy())]
    real = collect(network, of_faces(some), len(some), "quick distance", shown=False)

    def distance(generator: Generator) -> float:
        faces_now = generated(generator, seed, _DRAW)
        return frechet_distance(collect(network, faces_now, len(some), "quick distance", shown=False), real)

    return distance
