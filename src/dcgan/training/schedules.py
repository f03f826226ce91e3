"""Values that change with the pictures seen so far: learning rates, the penalties' weight and the averages' half-life.

`progress` is the share of the training that is done, from 0 to below 1.
"""

from __future__ import annotations

import math


def cosine(first: float, last: float, progress: float) -> float:
    """Returns the value at `progress` on half a cosine from `first` to `last` (Loshchilov and Hutter 2017, eq. 5)."""
    return first + (last - first) * (1 - math.cos(math.pi * progress)) / 2


def warm_up(seen: float, kimg: float) -> float:
    """Returns the share of the learning rate: it rises linearly over the first `kimg` thousand pictures, and stays 1.

    Args:
        seen: pictures up to the end of the present step, so that the first step already learns.
    """
    return min(1.0, seen / (kimg * 1000)) if kimg else 1.0


def halflife(seen: float, kimg: float, rampup: float) -> float:
    """Returns the averages' half-life in pictures: `kimg` thousand, but at most the share `rampup` of those seen.

    The ramp keeps the untrained weights of the beginning out of the average (Karras et al. 2020, "Training Generative
    Adversarial Networks with Limited Data": its code has 0.05).
    """
    return min(kimg * 1000, seen * rampup)
