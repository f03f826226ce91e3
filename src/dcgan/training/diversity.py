"""How much generated pictures differ from each other, beside the data: what a collapse loses first."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from dcgan.data.images import Faces, Pixels
from dcgan.sampling import random_state

SIDE = 8  # pixels: at this resolution noise and checkerboards, which differ from picture to picture, average out
DATA_PICTURES = 512
COLLAPSED = 0.5  # of the data's diversity


def diversity(pictures: Pixels) -> float:
    """The standard deviation across pictures, uint8 (N, H, W, C), of what stands at one place, in levels.

    It is the root of half the mean squared distance of two pictures, at 8x8 pixels: 0 if all are alike.
    """
    maps = adaptive_avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2).double(), SIDE)
    return float(maps.var(dim=0, correction=1).mean().sqrt())


def of_data(faces: Faces, seed: int) -> float:
    """The diversity of some of the pictures that are trained on."""
    chosen = torch.randperm(len(faces), generator=random_state(seed, "diversity"))[:DATA_PICTURES]
    return diversity(faces[np.sort(chosen.numpy())])
