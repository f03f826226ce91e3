"""The names in metrics.json of the distance, the scores and the settings that they were measured with.

None is the name of a parameter: `dvc exp show` would show two columns, each with the name of its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FID, FRECHET_DISTANCE = "fid", "frechet_distance"
# From names in params.yaml to names in metrics.json.
SETTINGS = {
    "fid_network": "network",
    "fid_samples": "samples",
    "fid_repeats": "repeats",
    "fid_split": "reference_split",
}
# Of the scores by nearest neighbours; `precision` is the name of a parameter.
SCORES = ("sample_precision", "sample_recall", "density", "coverage")
COUNTS = ("scores_count", "floor_count")  # numbers of faces that metrics.json gives beside the values


def distance_name(metrics: Mapping[str, Any]) -> str:
    """Returns FID if pytorch-fid's network and weights were used, otherwise FRECHET_DISTANCE."""
    return FID if FID in metrics else FRECHET_DISTANCE
