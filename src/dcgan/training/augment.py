"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): colour, translation and cutout.

Differentiable and applied to real and generated pictures alike, so that the discriminator cannot learn
the few real ones by heart and the generator does not learn the augmentation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

SHIFT = 0.125  # of the side, at most
CUTOUT = 0.5  # of the side
Draw = Callable[..., Tensor]


def diff_augment(pictures: Tensor, random: torch.Generator, rank: int = 0, ranks: int = 1) -> Tensor:
    """Augments pictures (N, C, H, W) in [-1, 1], each in its own way.

    Args:
        random: on the device of `pictures`; it draws for the N * ranks pictures of all ranks, alike on each.
        rank: which N of them `pictures` are.
    """

    def draw(distribution: Callable[..., Tensor], *of: int, fields: int) -> Tensor:
        """(fields, N): what this rank's pictures get."""
        size = fields, len(pictures) * ranks
        drawn = distribution(*of, size, generator=random, device=pictures.device)
        return drawn[:, rank * len(pictures) : (rank + 1) * len(pictures)]

    return _cutout(_translate(_color(pictures, draw), draw), draw)


def _color(x: Tensor, draw: Draw) -> Tensor:
    brightness, saturation, contrast = draw(torch.rand, fields=3).to(x.dtype).reshape(3, len(x), 1, 1, 1)
    x = x + (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (saturation * 2) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _translate(x: Tensor, draw: Draw) -> Tensor:
    """Shifts by up to SHIFT of the side; what comes in is 0, a middle grey."""
    n, _, height, width = x.shape
    limit = int(height * SHIFT + 0.5)
    shift = draw(torch.randint, -limit, limit + 1, fields=2).unsqueeze(2)
    rows = (torch.arange(height, device=x.device) + shift[0] + limit).unsqueeze(2)  # (N, H, 1)
    columns = (torch.arange(width, device=x.device) + shift[1] + limit).unsqueeze(1)  # (N, 1, W)
    padded = pad(x, (limit, limit, limit, limit))
    batch = torch.arange(n, device=x.device).reshape(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, draw: Draw) -> Tensor:
    _, _, height, width = x.shape
    side = int(height * CUTOUT + 0.5)
    center = draw(torch.randint, 0, height + (1 - side % 2), fields=2).unsqueeze(2)
    rows = (torch.arange(height, device=x.device) - center[0]).unsqueeze(2)
    columns = (torch.arange(width, device=x.device) - center[1]).unsqueeze(1)
    half = side // 2
    cut = (rows >= -half) & (rows < side - half) & (columns >= -half) & (columns < side - half)
    return x * (~cut).unsqueeze(1).to(x.dtype)
