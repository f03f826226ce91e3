"""Diversity: how much generated pictures differ from each other, compared with the data. A collapse lowers it first."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from dcgan.data.images import Pixels
from dcgan.sampling import random_state

logger = logging.getLogger(__name__)
SIDE = 8  # pixels; averages out noise and checkerboards, which differ between pictures
DATA_PICTURES = 512
COLLAPSED = 0.5  # share of the data's diversity; less is a collapse


def diversity(pictures: Pixels) -> float:
    """Returns the standard deviation across pictures, uint8 (N, H, W, C), in levels; it is 0 if all are alike.

    The pictures are averaged down to 8x8 pixels. The variance of each value across pictures is averaged over positions
    and channels, and the result is its root. It equals the root of half the mean squared difference of two pictures.
    """
    maps = adaptive_avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2).double(), SIDE)
    return float(maps.var(dim=0, correction=1).mean().sqrt())


def of_data(faces: Pixels, seed: int) -> float:
    """Returns the diversity of at most DATA_PICTURES training pictures, chosen at random."""
    chosen = torch.randperm(len(faces), generator=random_state(seed, "diversity"))[:DATA_PICTURES]
    return diversity(faces[np.sort(chosen.numpy())])


class Collapse:
    """Checks whether the generated pictures become alike, and warns once each time they do."""

    def __init__(self, faces: Pixels, seed: int) -> None:
        self._of_data = of_data(faces, seed)
        self._warned = False

    def look(self, pictures: Pixels, epoch: int, warn: bool) -> float:
        """Returns the diversity of generated pictures as a share of the data's; infinity if the data has none.

        With `warn`, a share below COLLAPSED logs a warning.
        """
        made = diversity(pictures)
        share = made / self._of_data if self._of_data else math.inf
        collapsed = share < COLLAPSED
        if collapsed and warn and not self._warned:
            logger.warning(
                "the generator has collapsed: after epoch %d its pictures have %.0f %% of the data's diversity; "
                "try loss: relativistic with r1_gamma above 0, augment: true, or a lower lr",
                epoch,
                100 * share,
            )
        self._warned = collapsed and (warn or self._warned)
        return share
