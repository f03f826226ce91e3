"""How much generated pictures differ from each other, beside the data: what a collapse loses first."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from dcgan.data.images import Faces, Pixels
from dcgan.sampling import random_state

logger = logging.getLogger(__name__)
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


class Collapse:
    """Watches whether the generated pictures become alike, and warns once each time that they do."""

    def __init__(self, faces: Faces, seed: int) -> None:
        self._of_data = of_data(faces, seed)
        self._warned = False

    def look(self, pictures: Pixels, epoch: int, warn: bool) -> float:
        """The diversity of generated pictures as a share of the data's; infinite if the data has none."""
        made = diversity(pictures)
        share = made / self._of_data if self._of_data else math.inf
        collapsed = share < COLLAPSED
        if collapsed and warn and not self._warned:
            logger.warning(
                "the generator has collapsed: after epoch %d its pictures differ %.0f %% as much as the data's; "
                "try loss: relativistic with r1_gamma above 0, augment: true, or a lower lr",
                epoch,
                100 * share,
            )
        self._warned = collapsed and (warn or self._warned)
        return share
