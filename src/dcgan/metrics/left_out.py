"""What metrics.json lacks, and why: measures for which there are too few faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics import kernel, neighbours
from dcgan.metrics.names import distance_name


def left_out(metrics: Mapping[str, Any]) -> list[str]:
    """Returns what is missing in `metrics`, the contents of reports/metrics.json, each with the reason."""
    split, real, missing = metrics["reference_split"], metrics["reference_count"], []
    made, name = metrics["samples"], distance_name(metrics)
    scores = {"the kernel distance": kernel.LEAST, "precision, recall, density and coverage": neighbours.LEAST}
    if real is None:
        what = ", ".join(["the distance", *scores])
        missing.append(f"{what}: fid_split: {split} has fewer than 2 faces in this data set; set fid_split: all")
    else:
        missing += [
            f"{what}: {least} faces a side are needed, and there are {made} generated ones and {real} real ones"
            for what, least in scores.items()
            if min(made, real) < least
        ]
    of_floor = f"the {metrics['floor_split']} or the {metrics['floor_reference']} split has fewer"
    if f"{name}_floor" not in metrics:
        missing.append(f"the floors: {of_floor} than 2 faces")
    elif "precision" in metrics and "precision_floor" not in metrics:
        missing.append(f"the floors of the scores: {neighbours.LEAST} faces a side are needed, and {of_floor}")
    if "memorisation" not in metrics:
        missing.append("memorisation: there are fewer than 2 test faces, or they were trained on (train_split: all)")
    return missing
