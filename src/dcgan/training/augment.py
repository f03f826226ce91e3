"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): colour, translation and cutout.

The augmentations are differentiable and apply to real and generated pictures. The discriminator therefore cannot
memorise a small set of real pictures, and the generator does not learn to produce augmented ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

SHIFT = 0.125  # largest translation, as a share of the side
CUTOUT = 0.5  # side of the square that is cut out, as a share of the picture's side
Draw = Callable[..., Tensor]


def diff_augment(pictures: Tensor, random: torch.Generator, rank: int = 0, ranks: int = 1) -> Tensor:
    """Augments pictures (N, C, H, W) in [-1, 1], each with its own random values.

    Args:
        random: on the device of `pictures`, in the same state on all ranks; draws the values for the N * ranks
            pictures of all ranks.
        rank: index of this rank, whose N pictures are `pictures`.
        ranks: number of ranks.
    """

    def draw(distribution: Callable[..., Tensor], *of: int, fields: int) -> Tensor:
        """Draws values for the pictures of all ranks, and returns those of this rank, (fields, N)."""
        size = fields, len(pictures) * ranks
        drawn = distribution(*of, size, generator=random, device=pictures.device)
        return drawn[:, rank * len(pictures) : (rank + 1) * len(pictures)]

    return _cutout(_translate(_color(pictures, draw), draw), draw)


def _color(x: Tensor, draw: Draw) -> Tensor:
    """Changes brightness, saturation and contrast."""
    brightness, saturation, contrast = draw(torch.rand, fields=3).to(x.dtype).reshape(3, len(x), 1, 1, 1)
    x = x + (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (saturation * 2) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _translate(x: Tensor, draw: Draw) -> Tensor:
    """Shifts by up to SHIFT of the side, and fills the uncovered border with 0 (middle grey)."""
    n, _, height, width = x.shape
    limit = int(height * SHIFT + 0.5)
    shift = draw(torch.randint, -limit, limit + 1, fields=2).unsqueeze(2)
    rows = (torch.arange(height, device=x.device) + shift[0] + limit).unsqueeze(2)  # (N, H, 1)
    columns = (torch.arange(width, device=x.device) + shift[1] + limit).unsqueeze(1)  # (N, 1, W)
    padded = pad(x, (limit, limit, limit, limit))
    batch = torch.arange(n, device=x.device).reshape(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, draw: Draw) -> Tensor:
    """Sets a square to 0 (middle grey); its side is CUTOUT of the picture's side."""
    _, _, height, width = x.shape
    side = int(height * CUTOUT + 0.5)
    center = draw(torch.randint, 0, height + (1 - side % 2), fields=2).unsqueeze(2)
    rows = (torch.arange(height, device=x.device) - center[0]).unsqueeze(2)
    columns = (torch.arange(width, device=x.device) - center[1]).unsqueeze(1)
    half = side // 2
    cut = (rows >= -half) & (rows < side - half) & (columns >= -half) & (columns < side - half)
    return x * (~cut).unsqueeze(1).to(x.dtype)
