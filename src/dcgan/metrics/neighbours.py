"""Nearest neighbours among features, and the scores that they give: fidelity and variety.

Distances are Euclidean. All of them are computed on the device that is passed, a block at a time; float32 finds the
candidates for the nearest, and float64 decides. Balls are closed: a distance equal to the radius is inside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcgan.metrics import least_counts

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]
PRECISION_RECALL_NEIGHBOUR = 3  # Kynkäänniemi et al. 2019, section 3
DENSITY_COVERAGE_NEIGHBOUR = 5  # Naeem et al. 2020, section 3
LEAST = least_counts.NEIGHBOURS  # features a side
CPU = torch.device("cpu")
_ROWS = 1000  # rows in a block of distances
_FEW = 64  # rows whose candidates are compared in float64 at a time
_SPARE = 8  # candidates beyond those that are wanted
_SAME = 1e-12  # share of a squared length or distance that counts as rounding in float64


class Scores(NamedTuple):
    """Precision, recall, density and coverage. All are in [0, 1], except density, which can exceed 1.

    `precision` and `recall` follow Kynkäänniemi et al. 2019 (arXiv 1904.06991, eq. 2), with k = 3. `density` and
    `coverage` follow Naeem et al. 2020 (arXiv 2002.09797, section 3), with k = 5.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def scores(real: Features, generated: Features, device: torch.device = CPU) -> Scores:
    """Returns the scores of real (N, D) and generated (M, D) features, each with at least LEAST rows."""
    near, far = PRECISION_RECALL_NEIGHBOUR, DENSITY_COVERAGE_NEIGHBOUR
    real_near, real_far = _radii(real, device, near, far)
    (generated_near,) = _radii(generated, device, near)
    precise = torch.zeros(len(generated), dtype=torch.bool, device=device)
    inside = torch.zeros(len(generated), dtype=torch.int64, device=device)
    recalled, covered = 0, 0
    origin = np.asarray(generated[0], np.float64)
    others = _moved(generated, origin, device)
    for start in range(0, len(real), _ROWS):
        rows = slice(start, start + _ROWS)
        squared = _squared(_moved(real[rows], origin, device), others)
        within = squared <= real_far[rows, None]
        precise |= (squared <= real_near[rows, None]).any(dim=0)
        inside += within.sum(dim=0)
        recalled += int((squared <= generated_near).any(dim=1).sum())
        covered += int(within.any(dim=1).sum())
    return Scores(
        precision=float(precise.double().mean()),
        recall=recalled / len(real),
        density=float(inside.double().mean() / far),
        coverage=covered / len(real),
    )


def nearest(
    of: Features, among: Features, count: int = 1, device: torch.device = CPU
) -> tuple[npt.NDArray[np.intp], Array]:
    """Finds the nearest rows of `among` (M, D) for each row of `of` (N, D).

    `among` is read a block at a time.

    Returns:
        The numbers and the distances of the nearest rows, nearest first. Both are (N, K), where K is the smaller of
        `count` and M. Rows that are equally near in float32 are in the order of `among`.
    """
    count = min(count, len(among))
    candidates, bound = _candidates(of, among, min(count + _SPARE, len(among)), device)
    numbers = torch.empty((len(of), count), dtype=torch.int64)
    squared = torch.empty((len(of), count), dtype=torch.float64)
    for start in range(0, len(of), _FEW):
        rows = slice(start, start + _FEW)
        apart = _moved(among[candidates[rows].numpy()], of[rows, None], device).square_().sum(dim=2)
        numbers[rows], squared[rows] = _first(candidates[rows].to(device), apart, count)
    if candidates.shape[1] < len(among):
        # Where float32 cannot tell the last candidate from the last that is wanted, others may be as near.
        unsure = (squared[:, -1].float() >= bound.float()).nonzero()[:, 0]
        if len(unsure):
            numbers[unsure], squared[unsure] = _nearest_in_float64(of[unsure.numpy()], among, count, device)
    return numbers.numpy(), squared.sqrt().numpy()


def _candidates(of: Features, among: Features, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the numbers (N, count) of rows that are nearest in float32, and a bound (N,).

    The squared distance to any other row is at least the bound, whatever the rounding.
    """
    origin: Array = np.mean(of, axis=0, dtype=np.float64)
    queries = _moved(of, origin, device).float()
    lengths = queries.square().sum(dim=1)
    best, numbers = queries.new_empty((len(of), 0)), torch.empty((len(of), 0), dtype=torch.int64, device=device)
    for start in range(0, len(among), _ROWS):
        block = _moved(among[start : start + _ROWS], origin, device).float()
        squared = torch.addmm(block.square().sum(dim=1), queries, block.T, alpha=-2).add_(lengths[:, None])
        nearer = squared.topk(min(count, len(block)), largest=False)
        best, numbers = torch.cat([best, nearer.values], 1), torch.cat([numbers, nearer.indices + start], 1)
        if best.shape[1] > count:
            best, kept = best.topk(count, largest=False)
            numbers = numbers.gather(1, kept)
    # The rounding of a squared distance d^2 is at most about 2 D 2^-24 (|a|^2 + |b|^2) (Higham 2002, section 3.1), and
    # |b|^2 is at most 2 |a|^2 + 2 d^2.
    last = best.amax(dim=1).double()
    return numbers.cpu(), (last - (of.shape[1] + 8) * 2.0**-24 * (6 * lengths + 4 * last)).cpu()


def _nearest_in_float64(of: Features, among: Features, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns numbers and squared distances as `nearest` does, in float64 throughout."""
    origin = np.asarray(of[0], np.float64)
    queries = _moved(of, origin, device)
    best, numbers = queries.new_empty((len(of), 0)), torch.empty((len(of), 0), dtype=torch.int64, device=device)
    for start in range(0, len(among), _ROWS):
        squared = _squared(queries, _moved(among[start : start + _ROWS], origin, device))
        block = torch.arange(start, start + squared.shape[1], device=device).expand(squared.shape)
        best, numbers = torch.cat([best, squared], 1), torch.cat([numbers, block], 1)
        numbers, best = _first(numbers, best, min(count, best.shape[1]))
    return numbers.cpu(), best.cpu()


def _first(numbers: Tensor, squared: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the `count` smallest squared distances of each row and their numbers, ties in float32 by number."""
    keys = squared.float().view(torch.int32).long() << 32 | numbers  # floats from 0 on are in the order of their bits
    order = keys.topk(count, largest=False).indices
    return numbers.gather(1, order), squared.gather(1, order)


def _moved(features: Features, origin: Features, device: torch.device) -> Tensor:
    """Returns features less an origin, in float64: products of features with a large mean would cost digits."""
    return torch.from_numpy(features - np.asarray(origin, np.float64)).to(device)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Returns the squared distances (N, M) between the rows of `a` (N, D) and `b` (M, D), all in float64."""
    scale = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    squared = torch.addmm(scale, a, b.T, alpha=-2)
    return squared.masked_fill_(squared < _SAME * scale, 0)


def _radii(features: Features, device: torch.device, *neighbours: int) -> list[Tensor]:
    """Returns the squared distances of each row to its k-th nearest other row, for each k, plus a rounding margin."""
    squared = torch.from_numpy(nearest(features, features, max(neighbours) + 1, device)[1]).square()
    return [(squared[:, k] * (1 + 4 * _SAME)).to(device) for k in neighbours]
