"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): colour, translation and cutout.

The augmentations are differentiable and apply to real and generated pictures. The discriminator therefore cannot
memorise a small set of real pictures, and the generator does not learn to produce augmented ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    limit = int(x.shape[2] * SHIFT + 0.5)
    moved: Tensor = _Shifted.apply(x, draw(torch.randint, -limit, limit + 1, fields=2), limit)
    return moved


class _Shifted(torch.autograd.Function):
    """Pictures shifted by whole pixels. Their gradients are shifted back; torch's own backward pass would add them up
    one by one, which is slow on a GPU if it is to be deterministic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, limit: int) -> Tensor:
        ctx.save_for_backward(shift)
        ctx.limit = limit
        return _shifted(x, shift, limit)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (shift,) = ctx.saved_tensors
        return _shifted(gradient, -shift, ctx.limit), None, None


def _shifted(x: Tensor, shift: Tensor, limit: int) -> Tensor:
    """Returns pictures (N, C, H, W) whose pixel (i, j) is pixel (i, j) + `shift` (2, N) of `x`, at most `limit` away;
    0 outside."""
    n, _, height, width = x.shape
    rows = (torch.arange(height, device=x.device) + shift[0].unsqueeze(1) + limit).unsqueeze(2)  # (N, H, 1)
    columns = (torch.arange(width, device=x.device) + shift[1].unsqueeze(1) + limit).unsqueeze(1)  # (N, 1, W)
    batch = torch.arange(n, device=x.device).reshape(n, 1, 1)
    padded = pad(x, (limit, limit, limit, limit))
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
