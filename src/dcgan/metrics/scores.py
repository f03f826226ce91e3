"""The scores that compare pairs of features, with as many features on both sides, and their floors."""

from __future__ import annotations

import torch

from dcgan.metrics import kernel, neighbours
from dcgan.metrics.floors import Floor
from dcgan.metrics.names import SCORES
from dcgan.metrics.reference import COMPARED, Features, Reference


def scores(
    faces: Features, real: Reference | None, floor: Floor | None, kernel_name: str, device: torch.device
) -> dict[str, float]:
    """Returns the kernel distance and the neighbours' scores of generated faces (N, D), and their floors.

    All of them use `equal_count` features a side, the first ones. What there are too few features for is left out.
    """
    count = equal_count(faces, real, floor)
    if real is None:
        return {}
    metrics = _scores(faces[:count], real.features[:count], kernel_name, device)
    if floor and _enough(floor):
        floors = _scores(floor.faces.features[:count], floor.real.features[:count], kernel_name, device)
        metrics |= {f"{name}_floor": value for name, value in floors.items() if not name.endswith("_standard_error")}
    return metrics


def equal_count(faces: Features, real: Reference | None, floor: Floor | None) -> int:
    """Returns how many features of each side the scores and their floors use: the fewest that one of the sides has.

    A floor with fewer than `neighbours.LEAST` faces does not count, since the scores could not be computed either.
    """
    if real is None:
        return 0
    sides = [faces, real.features]
    if floor and _enough(floor):
        sides += [floor.faces.features, floor.real.features]
    return min(COMPARED, *map(len, sides))


def _enough(floor: Floor) -> bool:
    return min(len(floor.faces.features), len(floor.real.features)) >= neighbours.LEAST


def _scores(faces: Features, real: Features, kernel_name: str, device: torch.device) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if len(real) >= kernel.LEAST:
        distance = kernel.kernel_distance(faces, real)
        metrics |= {kernel_name: distance.value, f"{kernel_name}_standard_error": distance.standard_error}
    if len(real) >= neighbours.LEAST:
        metrics |= zip(SCORES, neighbours.scores(real, faces, device), strict=True)
    return metrics
