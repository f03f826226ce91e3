"""What metrics.json lacks, and why: measures for which there are too few faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics import kernel, neighbours
from dcgan.metrics.names import distance_name


def left_out(metrics: Mapping[str, Any]) -> list[str]:
    """Returns what is missing in `metrics`, the contents of reports/metrics.json, each with the reason."""
    split, missing = metrics["reference_split"], []
    made, real = metrics["samples_of_scores"], metrics["reference_of_scores"]
    scores = {"the kernel distance": kernel.LEAST, "precision, recall, density and coverage": neighbours.LEAST}
    if metrics["reference_count"] is None:
        what = ", ".join(["the distance", *scores])
        missing.append(f"{what}, since the split {split} has fewer than 2 faces; set `fid_split: all`")
    else:
        missing += [
            f"{what}, since there are {made} generated and {real} real faces, and {least} of each are needed"
            for what, least in scores.items()
            if min(made, real) < least
        ]
    if metrics["floor_count"] is None:
        missing.append("the floor and memorisation, since the test split has fewer than 2 faces")
        return missing
    if f"{distance_name(metrics)}_floor" not in metrics:
        missing.append("the floor, since the train split has fewer than 2 faces")
    if "memorisation" not in metrics:
        missing.append("memorisation, since the test faces were trained on (`train_split: all`)")
    return missing
