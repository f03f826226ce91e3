"""Arithmetic on latents: "smiling - neutral + eyeglasses" (Radford et al. 2015, section 6.3.2 and figure 7)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dcgan.exploring.directions import deviation, scaled
from dcgan.networks import Settings

_NOISE = 0.25  # half the width of the uniform noise around the result, as in the paper
_LEAST = 3  # faces whose latents are averaged for a term, as many as in the paper


class Sum(NamedTuple):
    """One sum of average latents."""

    first: int  # number of the attribute that is kept
    second: int  # number of the attribute that is added
    terms: Tensor  # (3, nz): first without second, neither, second without first
    results: Tensor  # (9, nz): in the middle the first term less the second plus the third, noise around it


def add(
    settings: Settings, latents: Tensor, present: Tensor, preferred: list[int], random: torch.Generator
) -> Sum | None:
    """Returns the sum of the first pair of attributes for which there are faces enough; None if there is none.

    Each term is the mean of all latents of its kind, at the length of a drawn latent, as is the result. (The paper
    averages three that were chosen by eye.)

    Args:
        latents: (N, nz).
        present: (N, A), whether the face of a latent has the attribute.
        preferred: numbers of attributes in the order in which pairs of them are tried.
    """
    for place, second in enumerate(preferred):
        for first in preferred[:place]:
            a, b = present[:, first], present[:, second]
            groups = a & ~b, ~a & ~b, b & ~a
            if min(int(group.sum()) for group in groups) >= _LEAST:
                terms = scaled(settings, torch.stack([latents[group].mean(dim=0) for group in groups]))
                middle = scaled(settings, (terms[0] - terms[1] + terms[2])[None])
                noise = torch.rand(9, settings.nz, generator=random) * 2 - 1
                noise[4] = 0
                results = middle + _NOISE * deviation(settings) * noise.to(middle.device)
                return Sum(first, second, terms, results)
    return None
