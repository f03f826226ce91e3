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
        missing.append(f"{what}, since the split {split} has fewer than 2 faces; set `fid_split: all`")
    else:
        missing += [
            f"{what}, since there are {made} generated and {real} real faces, and {least} of each are needed"
            for what, least in scores.items()
            if min(made, real) < least
        ]
    of_floor = f"since the split {metrics['floor_split']} or {metrics['floor_reference']} has fewer than"
    if f"{name}_floor" not in metrics:
        missing.append(f"the floors, {of_floor} 2 faces")
    elif "precision" in metrics and "precision_floor" not in metrics:
        missing.append(f"the floors of the scores, {of_floor} {neighbours.LEAST} faces")
    if "memorisation" not in metrics:
        missing.append("memorisation, since there are fewer than 2 test faces, or `train_split: all` trained on them")
    return missing
