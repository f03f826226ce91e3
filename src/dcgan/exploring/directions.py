"""Directions in latent space, found by averaging latents (Radford et al. 2015, section 6.3), and moves along them.

Positions and amounts are in standard deviations of a latent along a direction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dcgan.networks import Settings


def between_means(latents: Tensor, present: Tensor) -> Tensor:
    """Returns unit vectors (A, nz) from the mean latent without an attribute to the mean latent with it.

    Args:
        latents: (N, nz).
        present: (N, A), whether the face of a latent has the attribute; each attribute needs both kinds.
    """
    means = [(of.double().T @ latents.double()) / of.sum(dim=0)[:, None] for of in (present, ~present)]
    return torch.nn.functional.normalize(means[0] - means[1]).float()


def deviation(settings: Settings) -> float:
    """Returns the standard deviation of latents along any direction."""
    return 1 / math.sqrt(3) if settings.latent == "uniform" else 1.0


def moved(settings: Settings, latents: Tensor, directions: Tensor, amounts: Tensor) -> Tensor:
    """Returns latents (N, nz) moved along unit vectors (K, nz) by amounts (K,).

    A normal latent keeps its length, on which alone its probability depends, and a uniform one stays in [-1, 1].
    Amounts of 0 change nothing.
    """
    return _kept(settings, latents + deviation(settings) * (amounts @ directions), latents)


def placed(settings: Settings, latents: Tensor, direction: Tensor, position: float) -> Tensor:
    """Returns latents (N, nz) that lie at a position along a unit vector (nz,), and elsewhere as they were.

    These are latents as they are drawn, if the position is one: nothing is rescaled.
    """
    apart = position * deviation(settings) - latents @ direction
    there = latents + apart[:, None] * direction
    return there.clamp(-1, 1) if settings.latent == "uniform" else there


def scaled(settings: Settings, latents: Tensor) -> Tensor:
    """Returns sums or means of latents (N, nz) at the length of a drawn latent, and in [-1, 1] if uniform."""
    there = torch.nn.functional.normalize(latents) * deviation(settings) * math.sqrt(settings.nz)
    return there.clamp(-1, 1) if settings.latent == "uniform" else there


def _kept(settings: Settings, there: Tensor, latents: Tensor) -> Tensor:
    if settings.latent == "uniform":
        return there.clamp(-1, 1)
    return there * (latents.norm(dim=1, keepdim=True) / there.norm(dim=1, keepdim=True).clamp(min=1e-12))
