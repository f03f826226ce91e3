"""Dithering: a little noise on pictures before they enter a feature network, the same for all sets of pictures.

EfficientNet-Lite0 reacts to noise of one level, which nobody sees, as strongly as to a visible blur. Drawn pictures are
perfectly flat, real ones are not, and generated ones are not quite. With noise on both sides the distance sees what
people see (docs/evaluation.md has the measurements).
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 3  # the noise is an integer from -LEVELS to LEVELS, with a standard deviation of 2 levels
_BLOCK = 64  # pictures whose noise is drawn together


def noise(numbers: slice, channels: int, height: int, width: int) -> Tensor:
    """Returns the noise (N, channels, height, width) in levels, float32, of the pictures with these numbers in a set.

    It depends on a picture's number and size alone. Integers are the same on all machines.
    """
    first, last = numbers.start // _BLOCK, -(-numbers.stop // _BLOCK)
    shape = _BLOCK, channels, height, width
    blocks = [
        torch.randint(-LEVELS, LEVELS + 1, shape, generator=torch.Generator().manual_seed(number), dtype=torch.int8)
        for number in range(first, last)
    ]
    return torch.cat(blocks)[numbers.start - first * _BLOCK : numbers.stop - first * _BLOCK].float()
