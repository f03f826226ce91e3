"""What metrics.json lacks, and why: measures for which there are too few faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics import least_counts
from dcgan.metrics.names import SCORES, distance_name


def left_out(metrics: Mapping[str, Any]) -> list[str]:
    """Returns what is missing in `metrics`, the contents of reports/metrics.json, each with the reason."""
    split, real, missing = metrics["reference_split"], metrics["reference_count"], []
    made, name = metrics["samples"], distance_name(metrics)
    scores = {
        "the kernel distance": least_counts.KERNEL_DISTANCE,
        "precision, recall, density and coverage": least_counts.NEIGHBOURS,
    }
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
    elif SCORES[0] in metrics and f"{SCORES[0]}_floor" not in metrics:
        missing.append(f"the floors of the scores, {of_floor} {least_counts.NEIGHBOURS} faces")
    made, unseen, least = metrics["samples_of_copies"], metrics["valid_of_copies"], least_counts.COPIES
    if min(made, unseen) < least:
        missing.append(
            f"the search for copies, since there are {made} generated faces and {unseen} faces of the split valid that "
            f"were not trained on, and {least} of each are needed"
        )
    elif metrics.get("copies") is None:
        missing.append(
            "the share of copies, since the generated faces are so far from all real faces that copies would be missed"
        )
    return missing
