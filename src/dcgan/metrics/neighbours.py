"""What nearest neighbours say of two sets of features: fidelity, variety, and whether faces were learnt by heart.

Distances are Euclidean, taken in float64, and closed balls hold their edge: a distance equal to the radius is inside.
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
_ROWS = 1000  # of a block of distances
_SAME = 1e-12  # a share of a squared length, or of a squared distance, that is rounding


class Scores(NamedTuple):
    """`precision` and `recall` (Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 2), k = 3; `density` and `coverage`
    (Naeem et al. 2020, arXiv 2002.09797, section 3), k = 5. All in [0, 1] but density, which can exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def scores(real: Features, generated: Features) -> Scores:
    """The scores of (N, D) real and (M, D) generated features, each of at least LEAST rows."""
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
    """For each row of (N, D) its nearest rows of (M, D), nearest first: their numbers and distances.

    Both are (N, K), with K = `count`, or M if that is less. Of those that are equally near, to the digits of float32,
    the first comes first. `among` is read once, a block at a time.
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
    """How likely a generated face lies nearer to its nearest training face than a test face does to its own.

    One half for a generator that learnt the distribution, 1 for one that learnt its training faces by heart, less
    than a half for one that is far from both (Meehan et al. 2020, arXiv 2004.05675, section 3, without cells).

    Args:
        generated_to_training: distances (N,) to the nearest training face.
        test_to_training: likewise, (M,).
    """
    generated = np.sort(generated_to_training)
    nearer = np.searchsorted(generated, test_to_training, "left").sum()
    not_farther = np.searchsorted(generated, test_to_training, "right").sum()
    pairs = generated.size * test_to_training.size
    return float((nearer + not_farther) / 2 / pairs)  # equal distances count half: Mann and Whitney's U over the pairs


def _blocks(a: Features, b: Features) -> Iterator[tuple[slice, Array]]:
    """Squared distances between rows of (N, D) and (M, D), _ROWS of the first at a time: which rows, (rows, M)."""
    origin = np.asarray(b[0], np.float64)  # a large mean would cost digits
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
    """The squared distance of each row to its k-th nearest other row, for each k, rounding added."""
    radii = np.empty((len(neighbours), len(features)))
    for rows, squared in _blocks(features, features):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = -1  # itself, the nearest of all
        radii[:, rows] = np.partition(squared, neighbours, axis=1)[:, neighbours].T
    return list(radii * (1 + _SAME))
