"""The Frechet distance between two sets of features (Heusel et al. 2017, eq. 6), by pytorch-fid's definition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcgan.system.errors import UserError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and unbiased covariance (D, D) of `count` features."""

    count: int
    mean: Array
    covariance: Array


class Moments:
    """Mean and covariance of features that come in batches, in float64 on their device."""

    def __init__(self) -> None:
        self._count = 0
        self._origin = self._sum = self._products = torch.zeros(0)

    def add(self, features: Tensor) -> None:
        """Takes in features (N, D)."""
        batch = features.double()
        if not self._count:
            # Sums around the first mean: raw second moments would lose digits where mean^2 exceeds variance.
            self._origin = batch.mean(dim=0)
            self._sum, self._products = torch.zeros_like(self._origin), torch.zeros_like(batch.T @ batch)
        batch = batch - self._origin
        self._count += len(batch)
        self._sum += batch.sum(dim=0)
        self._products.addmm_(batch.T, batch)

    def statistics(self) -> Statistics:
        """Mean and covariance of all that was added.

        Raises:
            UserError: there are fewer than two features, or some are not finite.
        """
        if self._count < 2:
            raise UserError(f"a covariance needs at least 2 pictures, and there are {self._count}; take more.")
        mean = self._sum / self._count
        covariance = (self._products - torch.outer(mean, mean) * self._count) / (self._count - 1)
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise UserError("the features of some pictures are not finite; look for broken pictures or weights.")
        return Statistics(self._count, (mean + self._origin).cpu().numpy(), covariance.cpu().numpy())


def merge(parts: Iterable[Statistics]) -> Statistics:
    """The statistics of several sets together (Chan et al. 1979)."""
    parts = list(parts)
    count = sum(part.count for part in parts)
    mean = sum((part.mean * (part.count / count) for part in parts), np.zeros_like(parts[0].mean))
    scatter = np.zeros_like(parts[0].covariance)
    for part in parts:
        offset = part.mean - mean
        scatter += part.covariance * (part.count - 1) + np.outer(offset, offset) * part.count
    return Statistics(count, mean, scatter / (count - 1))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    The trace of the root is the sum of the roots of the eigenvalues of R S2 R, R the symmetric root of S1:
    S1 S2 has the same eigenvalues, and none of them is complex or needs an epsilon when S1 is singular.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
    offset = a.mean - b.mean
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(eigenvalues.clip(min=0)).sum()
    return max(0.0, float(offset @ offset + trace))  # rounding can leave equal sets a little below
