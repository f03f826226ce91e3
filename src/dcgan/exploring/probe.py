"""A linear probe: a ridge regression from features to attributes, each class of equal weight.

For each attribute the targets are 1 / n for the n faces that have it, -1 / m for the m faces that lack it, and 0 where
that is unknown, so that a rare class counts as much as a frequent one. One linear system gives all attributes. The
threshold of each lies halfway between the means of the two classes. These are means of scores that leave out the face
itself, since where there are more features than faces, a probe scores the faces that it was fitted to as it was told.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_RIDGE = 0.05  # penalty on the weights, as a share of the mean squared length of the standardised features


@dataclass(frozen=True)
class Probe:
    """A linear function from features (N, D) to scores (N, A), one for each attribute.

    A score is positive where the attribute seems to be present. Unseen faces with the attribute have 1 on average,
    those without it -1, as far as the faces that the probe was fitted to tell.
    """

    mean: Tensor  # (D,), of the features
    deviation: Tensor  # (D,)
    weights: Tensor  # (D, A), of the standardised features
    offsets: Tensor  # (A,)

    def scores(self, features: Tensor) -> Tensor:
        """Returns the scores (N, A) of features (N, D), in float64."""
        return ((features - self.mean) / self.deviation @ self.weights).double() + self.offsets


def fit(features: Tensor, labels: Tensor) -> Probe:
    """Fits a probe.

    Args:
        features: (N, D), on any device.
        labels: (N, A) on the same device: positive where the attribute is present, negative where it is absent, 0 where
            that is unknown. Each attribute needs both classes.
    """
    count, dimensions = features.shape
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)
    standard = (features - mean) / deviation
    present, absent = (labels > 0).double(), (labels < 0).double()
    targets = (present / present.sum(dim=0) - absent / absent.sum(dim=0)) * count
    system = (standard @ standard.T).double() / dimensions
    system.diagonal().add_(_RIDGE)
    factor = torch.linalg.cholesky(system)
    duals = torch.cholesky_solve(targets, factor)
    # Each face's score by a probe that was fitted to all others (Hastie et al. 2009, eq. 7.64).
    unseen = targets - duals / torch.cholesky_inverse(factor).diagonal()[:, None]
    with_it, without = ((unseen * of).sum(dim=0) / of.sum(dim=0) for of in (present, absent))
    half = (with_it - without).clamp(min=1e-12) / 2
    weights = standard.T @ (duals / half / dimensions).float()
    return Probe(mean, deviation, weights, -(with_it + without) / 2 / half)


def balanced_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean of the shares of both classes that scores (N, A) tell rightly, (A,): 0.5 by guessing."""
    right = (scores > 0) == (labels > 0)
    shares = [(right & of).sum(dim=0) / of.sum(dim=0) for of in (labels > 0, labels < 0)]
    return (shares[0] + shares[1]) / 2
