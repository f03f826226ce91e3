"""Principal directions of the generator's first layer (GANSpace, Härkönen et al. 2020, arXiv 2004.02546).

The first layer is linear: from a latent to features of 4x4, scaled by BatchNorm if that follows. So the principal
components of its features are exact and need no sample, and each belongs to one direction in latent space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcgan.networks import Generator
from dcgan.networks.pixel_norm import PixelNorm


def principal_directions(generator: Generator, most: int) -> tuple[Tensor, Tensor]:
    """Returns orthogonal unit vectors (K, nz) and their shares of the variance of the first layer, (K,), on the CPU.

    K is the smaller of `most` and nz. The signs, which have no meaning, make the largest component positive.
    """
    weight = _first_layer(generator).detach().cpu().double()
    variances, vectors = torch.linalg.eigh(weight @ weight.T)
    count = min(most, len(variances))
    chosen = vectors.T.flip(0)[:count]
    largest = chosen.gather(1, chosen.abs().argmax(dim=1, keepdim=True))
    shares = variances.flip(0).clamp(min=0) / variances.clamp(min=0).sum().clamp(min=1e-300)
    return (chosen * largest.sign()).float(), shares[:count]


def _first_layer(generator: Generator) -> Tensor:
    """Returns the first layer as a matrix (nz, features)."""
    if generator.settings.architecture == "linear":
        return generator.project.weight.T
    layer, norm = generator.main[0], generator.main[1]
    assert isinstance(layer, nn.ConvTranspose2d)
    if isinstance(norm, PixelNorm):  # it keeps the direction of the features, and makes all of one length
        return layer.weight.flatten(1)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None, "the generator's BatchNorm keeps statistics"
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (layer.weight * scale[:, None, None]).flatten(1)
