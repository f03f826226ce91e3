"""Copies of training faces among generated faces, altered ones too.

A face counts as a copy if it is nearer to a training face than the nearest 1 % of unseen real faces are. A perfect
generator therefore makes 1 %. `small_pictures` defines the distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binomtest, quantile_test

from dcgan.data.images import Pixels
from dcgan.metrics import least_counts
from dcgan.metrics.collecting import Pictures, of_faces
from dcgan.metrics.reference import COMPARED
from dcgan.metrics.small_pictures import nearest_faces, small_pictures

Array = npt.NDArray[np.float64]
NEAREST = 0.01  # share of unseen real faces that count as copies
_SEED = 1  # chooses the faces of a split that are compared; part of the protocol, not a setting


@dataclass(frozen=True)
class Training:
    """The faces that a generator was trained on, and those of two splits, which are empty if they were trained on."""

    faces: Pixels
    valid: Pixels
    test: Pixels


class Search(NamedTuple):
    """The result of a search for copies."""

    rows: npt.NDArray[np.intp]  # (N, K), numbers of the K training faces nearest to each generated face
    apart: Array  # (N,), distance of each generated face to the nearest of them
    metrics: dict[str, float | None]
    protocol: dict[str, Any]


class Copies(NamedTuple):
    """The share of copies among generated faces with an interval of 95 %, or None if it would mean nothing."""

    share: float | None
    low: float | None
    high: float | None
    verdict: str  # "copies", "no copies found" or "cannot tell"


def search(faces: Pictures, count: int, training: Training, neighbours: int, device: torch.device) -> Search:
    """Searches the first `count` generated faces for copies of training faces.

    The threshold comes from the split valid; `copies_floor` is the share that it makes of the split test. At most
    COMPARED faces of each split are compared. With fewer than `least_counts.COPIES` faces on a side nothing is counted.
    """
    known = small_pictures(of_faces(training.faces), len(training.faces), device)
    rows, apart = nearest_faces(faces, count, known, neighbours, device)
    unseen = {split: _some(of) for split, of in (("valid", training.valid), ("test", training.test))}
    enough = {split: min(count, number) >= least_counts.COPIES for split, (_, number) in unseen.items()}
    near = {split: nearest_faces(*of, known, 1, device)[1][:, 0] for split, of in unseen.items() if enough["valid"]}

    metrics: dict[str, float | None] = {}
    verdict = None
    if enough["valid"]:
        share, low, high, verdict = count_copies(apart[:, 0], near["valid"])
        metrics = {"copies": share, "copies_low": low, "copies_high": high}
        if enough["test"]:
            metrics["copies_floor"] = float((near["test"] <= threshold(near["valid"])).mean())
    counts = {f"{split}_of_copies": number for split, (_, number) in unseen.items()}
    return Search(rows, apart[:, 0], metrics, {"samples_of_copies": count, **counts, "copies_verdict": verdict})


def count_copies(generated: Array, unseen: Array) -> Copies:
    """Counts the copies, given the distances of generated (N,) and unseen real (M,) faces to the nearest training face.

    The interval includes the error of the threshold, which M faces determine: its ends are binomial limits of the
    shares below both ends of the threshold's interval. The verdict is "copies" if the interval exceeds 1 %. It is
    "cannot tell" if a copy would be missed that differs from its original as much as the generated faces differ from
    the data: if the median of their squared distances exceeds that of the unseen faces by more than the squared
    threshold.
    """
    limit = threshold(unseen)
    limits: Any = quantile_test(unseen, p=NEAREST).confidence_interval(0.95)
    low, high = _interval(generated <= limits.low)[0], _interval(generated <= limits.high)[1]
    if low <= NEAREST and np.median(generated**2) - np.median(unseen**2) > limit**2:
        return Copies(None, None, None, "cannot tell")
    verdict = "copies" if low > NEAREST else "no copies found"
    return Copies(float((generated <= limit).mean()), low, high, verdict)


def threshold(unseen: Array) -> float:
    """Returns the distance up to which a face counts as a copy: another unseen face is as near with probability 1 %."""
    return float(np.quantile(unseen, NEAREST, method="weibull"))


def _interval(are: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Returns the limits of 95 % for the share that `are` samples (Clopper and Pearson 1934)."""
    limits = binomtest(int(are.sum()), len(are)).proportion_ci(0.95)
    return float(limits.low), float(limits.high)


def _some(faces: Pixels) -> tuple[Pictures, int]:
    """Returns at most COMPARED random faces, and their number."""
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(faces))[:COMPARED])
    return lambda numbers: torch.from_numpy(faces[chosen[numbers]]), len(chosen)
