"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): colour, translation and cutout.

Differentiable and applied to real and generated pictures alike, so that the discriminator cannot learn
the few real ones by heart and the generator does not learn the augmentation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

SHIFT = 0.125  # of the side, at most
CUTOUT = 0.5  # of the side


def diff_augment(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Augments pictures (N, C, H, W) in [-1, 1], each in its own way, drawn from the CPU's `random`."""
    return _cutout(_translate(_color(pictures, random), random), random)


def _color(x: Tensor, random: torch.Generator) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, generator=random).to(x.device, x.dtype)
    x = x + (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (saturation * 2) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _translate(x: Tensor, random: torch.Generator) -> Tensor:
    """Shifts by up to SHIFT of the side; what comes in is 0, a middle grey."""
    n, _, height, width = x.shape
    most = int(height * SHIFT + 0.5)
    shift = torch.randint(-most, most + 1, (2, n, 1), generator=random).to(x.device)
    rows = (torch.arange(height, device=x.device) + shift[0] + most).unsqueeze(2)  # (N, H, 1)
    columns = (torch.arange(width, device=x.device) + shift[1] + most).unsqueeze(1)  # (N, 1, W)
    padded = pad(x, (most, most, most, most))
    batch = torch.arange(n, device=x.device).reshape(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, random: torch.Generator) -> Tensor:
    n, _, height, width = x.shape
    side = int(height * CUTOUT + 0.5)
    center = torch.randint(0, height + (1 - side % 2), (2, n, 1), generator=random).to(x.device)
    rows = (torch.arange(height, device=x.device) - center[0]).unsqueeze(2)
    columns = (torch.arange(width, device=x.device) - center[1]).unsqueeze(1)
    half = side // 2
    cut = (rows >= -half) & (rows < side - half) & (columns >= -half) & (columns < side - half)
    return x * (~cut).unsqueeze(1).to(x.dtype)
