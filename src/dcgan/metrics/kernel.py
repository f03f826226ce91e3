"""The kernel distance between two sets of features (Binkowski et al. 2018, arXiv 1801.01401); KID with Inception.

It is the squared maximum mean discrepancy under a cubic kernel. Unlike the estimate of the Frechet distance, its
estimate has no bias, so values from different numbers of samples can be compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcgan.metrics import least_counts

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]
LEAST = least_counts.KERNEL_DISTANCE  # features a side
_GROUPS = 20  # of the jackknife, at most


class KernelDistance(NamedTuple):
    """The squared maximum mean discrepancy and its standard error."""

    value: float
    standard_error: float


def kernel(x: Array, y: Array) -> Array:
    """Returns (x . y / D + 1)^3 for each pair of rows of (N, D) and (M, D), as (N, M) (section 4)."""
    return np.power(x @ y.T / x.shape[1] + 1, 3)


def kernel_distance(a: Features, b: Features) -> KernelDistance:
    """Returns the unbiased estimate over all pairs of rows of (N, D) and (M, D), each with at least LEAST rows.

    KID is mostly reported as the mean over random subsets, which converges to this value. The standard error is that of
    a jackknife, which leaves out a twentieth of both sets at a time (more if a set has fewer than 40 rows).
    """
    groups = min(_GROUPS, len(a) // 2, len(b) // 2)
    parts_a, parts_b = (np.array_split(np.asarray(x), groups) for x in (a, b))
    aa, bb, ab = _sums(parts_a, parts_a), _sums(parts_b, parts_b), _sums(parts_a, parts_b)
    sizes_a, sizes_b = (np.array([len(part) for part in parts]) for parts in (parts_a, parts_b))

    def estimate(kept: npt.NDArray[np.bool_]) -> float:
        n, m = sizes_a[kept].sum(), sizes_b[kept].sum()
        of_a, of_b, between = (sums[np.ix_(kept, kept)].sum() for sums in (aa, bb, ab))
        return float(of_a / (n * (n - 1)) + of_b / (m * (m - 1)) - 2 * between / (n * m))

    left_out = np.array([estimate(np.arange(groups) != g) for g in range(groups)])
    variance = (groups - 1) * left_out.var()
    return KernelDistance(estimate(np.ones(groups, bool)), float(np.sqrt(variance)))


def _sums(of: list[Features], to: list[Features]) -> Array:
    """Returns the kernel summed over all pairs of rows of two groups, for each pair of groups, (len(of), len(to)).

    If `of` is `to`, pairs of a row with itself are left out.
    """
    sums = np.empty((len(of), len(to)))
    for i, x in enumerate(of):
        for j, y in enumerate(to):
            if of is to and j < i:
                sums[i, j] = sums[j, i]
                continue
            values = kernel(x.astype(np.float64), y.astype(np.float64))
            sums[i, j] = values.sum() - (np.trace(values) if of is to and i == j else 0)
    return sums
