"""The Frechet distance between two sets of features (Heusel et al. 2017, eq. 6), as pytorch-fid defines it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcgan.system.errors import UserError

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and unbiased covariance (D, D) of `count` features, and the features of few pictures."""

    count: int
    mean: Array
    covariance: Array
    features: Features | None = None  # (N, D) with N up to D, from which distances are exact; None: more, or not known

    @cached_property
    def factor(self) -> Array:
        """A matrix F, (N, D) or (D, D), with F^T F = covariance."""
        if self.features is not None:
            centred: Array = (self.features - self.mean) / np.sqrt(self.count - 1)
            return centred
        return self.root

    @cached_property
    def root(self) -> Array:
        """The symmetric square root of the covariance, (D, D)."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: Array = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        return root


class Moments:
    """Accumulates the mean and covariance of batches of features, in float64 on their device.

    The features themselves are kept while there are at most as many as they have dimensions.
    """

    def __init__(self) -> None:
        self._count = 0
        self._features: list[Tensor] = []
        self._origin = self._sum = self._products = torch.zeros(0)

    def add(self, features: Tensor) -> None:
        """Adds features (N, D)."""
        batch = features.double()
        if not self._count:
            # Sums are around the first batch's mean: raw second moments lose digits where mean^2 exceeds the variance.
            self._origin = batch.mean(dim=0)
            self._sum, self._products = torch.zeros_like(self._origin), torch.zeros_like(batch.T @ batch)
        batch = batch - self._origin
        self._count += len(batch)
        self._features = [*self._features, features] if self._few else []
        self._sum += batch.sum(dim=0)
        self._products.addmm_(batch.T, batch)

    @property
    def _few(self) -> bool:
        return self._count <= len(self._origin)

    def statistics(self, least: int = 2) -> Statistics:
        """Returns the mean and covariance of all features that were added, and the features if they are few.

        Args:
            least: number of features that are enough. With 1, the covariance of a single feature is 0, as `merge`
                needs it.

        Raises:
            UserError: there are fewer than `least` features, or some are not finite.
        """
        if self._count < least:
            raise UserError(f"a covariance needs at least 2 pictures, and there are {self._count}; add more.")
        mean = self._sum / self._count
        covariance = (self._products - torch.outer(mean, mean) * self._count) / max(1, self._count - 1)
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise UserError("the features of some pictures are not finite; check for damaged pictures or weights.")
        features = torch.cat(self._features).cpu().numpy() if self._few else None
        return Statistics(self._count, (mean + self._origin).cpu().numpy(), covariance.cpu().numpy(), features)


def merge(parts: Iterable[Statistics]) -> Statistics:
    """Returns the statistics of the union of several sets of features (Chan et al. 1979)."""
    parts = list(parts)
    count = sum(part.count for part in parts)
    mean = sum((part.mean * (part.count / count) for part in parts), np.zeros_like(parts[0].mean))
    scatter = np.zeros_like(parts[0].covariance)
    for part in parts:
        offset = part.mean - mean
        scatter += part.covariance * (part.count - 1) + np.outer(offset, offset) * part.count
    kept = [part.features for part in parts if part.features is not None]
    few = len(kept) == len(parts) and count <= len(mean)
    return Statistics(count, mean, scatter / (count - 1), np.concatenate(kept) if few else None)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Returns |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    A factor and a root are kept with the statistics, so that several sets are compared faster with the same `b`.
    """
    offset = a.mean - b.mean
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * _trace_of_root(a, b)
    return max(0.0, float(offset @ offset + trace))  # rounding can make it slightly negative for equal sets


def _trace_of_root(a: Statistics, b: Statistics) -> float:
    """Returns tr (S1 S2)^(1/2), from the features of few pictures if there are any.

    With S1 = F^T F and S2 = G^T G it is the sum of the singular values of F G^T, which is exact to rounding. S1 S2 of
    few pictures has many eigenvalues of 0 instead, which rounding moves to 1e-16, and the square root of that is 1e-8.

    Of two covariances of many pictures it is the sum of the square roots of the eigenvalues of R S1 R, where R is the
    symmetric square root of S2. S1 S2 has the same eigenvalues. R S1 R is symmetric, so they are never complex, and
    need no epsilon when S2 is singular.
    """
    if a.features is None and b.features is None:
        return float(np.sqrt(np.linalg.eigvalsh(b.root @ a.covariance @ b.root).clip(min=0)).sum())
    return float(np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum())
