"""Strips: a face moved along one direction in equal steps, as a picture and as the scores of a probe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcgan.data.images import Pixels
from dcgan.exploring.directions import placed
from dcgan.exploring.pooled_features import Features, scored
from dcgan.exploring.probe import Probe
from dcgan.networks import Generator
from dcgan.sampling import generate, generate_levels

POSITIONS = (-1.5, -0.5, 0.5, 1.5)  # at which a probe scores, in standard deviations: three equal steps
SHOWN = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the strips in pictures
_BATCH = 128


def scores(
    generator: Generator, features: Features, probe: Probe, latents: Tensor, direction: Tensor, attribute: int
) -> Tensor:
    """Returns the scores (positions, N) of one attribute for each latent (N, nz), placed at POSITIONS."""
    steps = []
    for position in POSITIONS:
        there = placed(generator.settings, latents, direction, position)
        parts = (scored(features, probe, generate_levels(generator, part)) for part in there.split(_BATCH))
        steps.append(torch.cat([part[:, attribute] for part in parts]).cpu())
    return torch.stack(steps)


def rising(scores: Tensor) -> float:
    """Returns the share of the strips, scores (positions, N), that rise at every step."""
    return float((scores.diff(dim=0) > 0).all(dim=0).double().mean())


def rows(generator: Generator, latents: Tensor, directions: Sequence[Tensor]) -> list[Pixels]:
    """Returns for each direction the faces of all latents (N, nz) at SHOWN, uint8 (N * positions, H, W, C)."""
    settings = generator.settings
    return [
        generate(
            generator,
            torch.stack([placed(settings, latents, direction, position) for position in SHOWN], dim=1).flatten(0, 1),
        )
        for direction in directions
    ]
