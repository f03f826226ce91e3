"""A cheap Frechet distance during training, to see its progress and to keep the best generator.

It uses the dithered EfficientNet-Lite0 and few pictures, so compare its values only within one training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dcgan.data.images import Pixels
from dcgan.metrics import weights
from dcgan.metrics.collecting import collect, of_faces
from dcgan.metrics.feature_networks import load
from dcgan.metrics.frechet import frechet_distance
from dcgan.networks import Generator
from dcgan.sampling import generated, random_state

SAMPLES = 1500  # pictures a side, at most
# Draw of latents. The evaluation uses other draws, so a generator is not measured by the latents that chose it.
_DRAW = 1_000_000


def quick_distance(faces: Pixels, seed: int, device: torch.device) -> Callable[[Generator], float]:
    """Returns a function that measures the distance between a generator's faces and some of the training faces.

    The function uses the same latents each time.
    """
    network = load("efficientnet_lite0_dithered", weights.packaged(), device)
    chosen = torch.randperm(len(faces), generator=random_state(seed, "quick distance"))[:SAMPLES]
    some = faces[np.sort(chosen.numpy())]
    real = collect(network, of_faces(some), len(some), "quick distance", shown=False)

    def distance(generator: Generator) -> float:
        faces_now = generated(generator, seed, _DRAW)
        return frechet_distance(collect(network, faces_now, len(some), "quick distance", shown=False), real)

    return distance
