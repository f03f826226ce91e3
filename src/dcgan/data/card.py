"""What the crop found, as a data card: whose pictures, how many, what they show, which cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dcgan.data.images import Pixels
from dcgan.data.index import SPLITS, read_index
from dcgan.data.packing import Cropped, unusable
from dcgan.system.files import significant

_MOST_GROUPS = 100  # of equal faces that are listed


def describe(raw: Path, faces: Path, cropped: Mapping[str, Cropped], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """The data card as it is written to reports/data.json.

    Args:
        cropped: what `packing.pack` found in each split.
        pixels: how the faces were made (crop_size, image_size, nc).
    """
    pictures, source = read_index(raw)
    table = pd.read_parquet(faces / "faces.parquet")
    return {
        "source": source._asdict(),
        "faces": {split: len(cropped[split].digests) for split in SPLITS},
        "pixels": dict(pixels),
        "channels": channels(cropped["train"]),
        "attributes": frequencies(table),
        "duplicates": duplicates(table, [digest for split in SPLITS for digest in cropped[split].digests]),
        "bad": [row for split in SPLITS for row in unusable(pictures[pictures["split"] == split], cropped[split])],
    }


def mean_image(cropped: Cropped) -> Pixels:
    """The mean of the faces, uint8, (H, W, C); black where there are none."""
    mean: Pixels = np.rint(cropped.total / max(len(cropped.digests), 1)).astype(np.uint8)
    return mean


def channels(cropped: Cropped) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel over all pixels of the faces, levels from 0 to 1."""
    pixels = max(len(cropped.digests), 1) * cropped.total.shape[0] * cropped.total.shape[1]
    mean = cropped.total.sum(axis=(0, 1)) / pixels
    variance = cropped.total_squared.sum(axis=(0, 1)) / pixels - mean**2
    return {
        "mean": [significant(value / 255) for value in mean],
        "std": [significant(value / 255) for value in np.sqrt(np.maximum(variance, 0))],
    }


def frequencies(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The share of the faces that have an attribute, for each attribute and each split that holds faces."""
    present = table.drop(columns=["file", "split"]) > 0
    shares = present.groupby(table["split"]).mean().reindex([split for split in SPLITS if split in set(table["split"])])
    return {str(name): {str(k): round(float(v), 4) for k, v in column.items()} for name, column in shares.items()}


def duplicates(table: pd.DataFrame, digests: list[bytes]) -> dict[str, Any]:
    """Faces with the same pixels as an earlier one.

    Returns:
        `pictures`: how many; `across_splits`: how many groups of equal faces lie in more than one split, so that a
        test set is not apart from the training set; `groups`: the files of the first groups.
    """
    equal = table.assign(digest=digests).loc[lambda t: t["digest"].duplicated(keep=False)]
    groups = equal.groupby("digest", sort=False)
    return {
        "pictures": len(equal) - groups.ngroups,
        "across_splits": int((groups["split"].nunique() > 1).sum()),
        "groups": groups["file"].agg(list).tolist()[:_MOST_GROUPS],
    }
