"""A second, small discriminator of reduced pictures, which sees how much a group of them varies.

The large discriminator judges single pictures, mostly by their details, so that a generator can leave out what is hard
to draw. This one sees what kinds of pictures there are. It judges them at a coarser scale (Wang et al. 2018,
"pix2pixHD", arXiv 1711.11585, section 3.2), with the standard deviation of its features over groups of pictures (Karras
et al. 2018, "Progressive Growing of GANs", arXiv 1710.10196, section 3). At this scale, the generator cannot imitate
the deviation of the data by the contrast of details. Each place of the feature map has a deviation of its own, since a
plain background varies less than hair.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from dcgan.networks.convolutions import HalvingConv2d

SIDE = 16  # of the reduced pictures
CHANNELS = 32  # of the first feature map
GROUP = 16  # pictures, the most whose deviation is taken
EPSILON = 1e-8  # added to the variance: the gradient of a square root is infinite at 0


class CoarseDiscriminator(nn.Module):
    """Maps pictures (N, nc, image_size, image_size) in [-1, 1] to logits (N,).

    Args:
        share: factor of the gradient that flows from the logits to the pictures.
    """

    def __init__(self, nc: int, image_size: int, share: float, negative_slope: float) -> None:
        super().__init__()
        self.group = GROUP  # N must be a multiple of it
        self._stride, self._share = image_size // SIDE, share
        self.main = nn.Sequential(
            HalvingConv2d(nc, CHANNELS),
            nn.LeakyReLU(negative_slope, inplace=True),
            HalvingConv2d(CHANNELS, 2 * CHANNELS),
            nn.LeakyReLU(negative_slope, inplace=True),
        )
        self.last = nn.Conv2d(2 * CHANNELS + 1, 1, 4, 1, 0, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        passed = self._share * pictures + (1 - self._share) * pictures.detach()
        features = self.main(reduced(passed, self._stride))
        return self.last(torch.cat([features, group_deviation(features, self.group)], dim=1)).flatten()


def reduced(pictures: Tensor, stride: int) -> Tensor:
    """Reduces the sides by `stride`, averaging over windows twice as wide.

    Windows that did not overlap would have a gradient of square blocks.
    """
    if stride == 1:
        return pictures
    return avg_pool2d(pictures, 2 * stride, stride, stride // 2, count_include_pad=False)


def group_deviation(maps: Tensor, group: int) -> Tensor:
    """Returns the standard deviation over each `group` of consecutive (N, C, H, W), averaged over channels.

    It is (N, 1, H, W): all pictures of a group have the same.
    """
    groups = maps.float().unflatten(0, (-1, group))
    deviation = (groups.var(dim=1, correction=0) + EPSILON).sqrt().mean(dim=1, keepdim=True)
    return deviation.repeat_interleave(group, dim=0).to(maps.dtype)
