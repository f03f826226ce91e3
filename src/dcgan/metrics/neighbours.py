"""Nearest-neighbour scores of two sets of features: fidelity, variety and memorisation.

Distances are Euclidean, in float64. Balls are closed: a distance equal to the radius is inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]
PRECISION_RECALL_NEIGHBOUR = 3  # Kynkäänniemi et al. 2019, section 3
DENSITY_COVERAGE_NEIGHBOUR = 5  # Naeem et al. 2020, section 3
LEAST = 1 + DENSITY_COVERAGE_NEIGHBOUR  # features a side
_ROWS = 1000  # rows in a block of distances
_SAME = 1e-12  # share of a squared length or distance that counts as rounding


class Scores(NamedTuple):
    """Precision, recall, density and coverage. All are in [0, 1], except density, which can exceed 1.

    `precision` and `recall` follow Kynkäänniemi et al. 2019 (arXiv 1904.06991, eq. 2), with k = 3. `density` and
    `coverage` follow Naeem et al. 2020 (arXiv 2002.09797, section 3), with k = 5.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def scores(real: Features, generated: Features) -> Scores:
    """Returns the scores of real (N, D) and generated (M, D) features, each with at least LEAST rows."""
    near, far = PRECISION_RECALL_NEIGHBOUR, DENSITY_COVERAGE_NEIGHBOUR
    real_near, real_far = _radii(real, near, far)
    (generated_near,) = _radii(generated, near)
    precise, inside = np.zeros(len(generated), bool), np.zeros(len(generated), np.int64)
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, squared in _blocks(real, generated):
        precise |= (squared <= real_near[rows, None]).any(axis=0)
        recalled[rows] = (squared <= generated_near).any(axis=1)
        within = squared <= real_far[rows, None]
        inside += within.sum(axis=0)
        covered[rows] = within.any(axis=1)
    return Scores(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=float(inside.mean() / far),
        coverage=float(covered.mean()),
    )


def nearest(of: Features, among: Features, count: int = 1) -> tuple[npt.NDArray[np.intp], Array]:
    """Finds the nearest rows of `among` (M, D) for each row of `of` (N, D).

    `among` is read once, a block at a time.

    Returns:
        The numbers and the distances of the nearest rows, nearest first. Both are (N, K), where K is the smaller of
        `count` and M. Rows that are equally near in float32 are in the order of `among`.
    """
    numbers, best = np.zeros((len(of), 0), np.intp), np.zeros((len(of), 0))
    for rows, squared in _blocks(among, of):
        block = np.broadcast_to(np.arange(rows.start, rows.stop), (len(of), rows.stop - rows.start))
        numbers, best = np.concatenate([numbers, block], axis=1), np.concatenate([best, squared.T], axis=1)
        if best.shape[1] > count:
            nearer = np.argsort(best.astype(np.float32), axis=1, kind="stable")[:, :count]
            numbers, best = np.take_along_axis(numbers, nearer, axis=1), np.take_along_axis(best, nearer, axis=1)
    order = np.lexsort((numbers, best.astype(np.float32)), axis=1)
    return np.take_along_axis(numbers, order, axis=1), np.sqrt(np.take_along_axis(best, order, axis=1))


def memorisation(generated_to_training: Array, test_to_training: Array) -> float:
    """Returns the probability that a generated face is nearer to its nearest training face than a test face to its own.

    It is 0.5 for a generator that learnt the distribution, 1 for one that memorised its training faces, and less than
    0.5 for one whose faces are far from all data (Meehan et al. 2020, arXiv 2004.05675, section 3, without cells).

    Args:
        generated_to_training: distances (N,) of generated faces to their nearest training faces.
        test_to_training: distances (M,) of test faces to their nearest training faces.
    """
    generated = np.sort(generated_to_training)
    nearer = np.searchsorted(generated, test_to_training, "left").sum()
    not_farther = np.searchsorted(generated, test_to_training, "right").sum()
    pairs = generated.size * test_to_training.size
    return float((nearer + not_farther) / 2 / pairs)  # equal distances count half: Mann-Whitney U over the pairs


def _blocks(a: Features, b: Features) -> Iterator[tuple[slice, Array]]:
    """Yields up to _ROWS rows of `a` (N, D) at a time, with their squared distances (rows, M) to `b` (M, D)."""
    origin = np.asarray(b[0], np.float64)  # is subtracted, since a large mean would cost digits
    other = b - origin
    lengths = (other**2).sum(axis=1)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, min(start + _ROWS, len(a)))
        block = a[rows] - origin
        scale = (block**2).sum(axis=1)[:, None] + lengths
        squared = scale - 2 * (block @ other.T)
        squared[squared < _SAME * scale] = 0
        yield rows, squared


def _radii(features: Features, *neighbours: int) -> list[Array]:
    """Returns the squared distances of each row to its k-th nearest other row, for each k, plus a rounding margin."""
    radii = np.empty((len(neighbours), len(features)))
    for rows, squared in _blocks(features, features):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = -1  # the row itself sorts first
        radii[:, rows] = np.partition(squared, neighbours, axis=1)[:, neighbours].T
    return list(radii * (1 + _SAME))
