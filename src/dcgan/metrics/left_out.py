"""What metrics.json lacks, and why: measures for which there are too few faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics import least_counts
from dcgan.metrics.names import distance_name


def left_out(metrics: Mapping[str, Any]) -> list[str]:
    """Returns what is missing in `metrics`, the contents of reports/metrics.json, each with the reason."""
    split, missing = metrics["reference_split"], []
    made, real = metrics["samples_of_scores"], metrics["reference_of_scores"]
    scores = {
        "the kernel distance": least_counts.KERNEL_DISTANCE,
        "precision, recall, density and coverage": least_counts.NEIGHBOURS,
    }
    if metrics["reference_count"] is None:
        what = ", ".join(["the distance", *scores])
        missing.append(f"{what}: fid_split: {split} has fewer than 2 faces in this data set; set fid_split: all")
    else:
        missing += [
            f"{what}: {least} faces a side are needed, and there are {made} generated ones and {real} real ones"
            for what, least in scores.items()
            if min(made, real) < least
        ]
    if metrics["floor_count"] is None:
        missing.append("the floor: the test split has fewer than 2 faces")
    elif f"{distance_name(metrics)}_floor" not in metrics:
        missing.append("the floor: the train split has fewer than 2 faces")
    made, unseen = metrics["samples_of_copies"], metrics["valid_of_copies"]
    if min(made, unseen) < least_counts.COPIES:
        missing.append(
            f"the search for copies: {least_counts.COPIES} generated faces and {least_counts.COPIES} faces of the "
            f"split valid that were not trained on are needed, and there are {made} and {unseen}"
        )
    elif metrics.get("copies") is None:
        missing.append(
            "the share of copies: the generated faces are so far from all real faces that copies would be missed"
        )
    return missing
