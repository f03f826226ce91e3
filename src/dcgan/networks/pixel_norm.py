"""Pixelwise normalisation of feature vectors (Karras et al. 2018, "Progressive Growing of GANs", section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

EPSILON = 1e-8  # added to the mean square


class PixelNorm(nn.Module):
    """Divides the feature vector of each pixel by its root mean square, then scales and shifts each channel.

    It maps (N, C, H, W) to the same shape. Unlike BatchNorm, it treats each picture alone, so that a small batch adds
    no noise, and no statistics have to be estimated. Scale and shift, which Karras et al. leave out, are BatchNorm's.
    It computes in float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        last = maps.permute(0, 2, 3, 1).float()
        return (rms_norm(last, (maps.shape[1],), self.weight, EPSILON) + self.bias).to(maps.dtype).permute(0, 3, 1, 2)
