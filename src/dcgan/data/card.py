"""The data card: source of the pictures, number of faces, attributes, duplicates, and pictures that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dcgan.data.images import Pixels
from dcgan.data.index import SPLITS, read_index, read_left_out
from dcgan.data.packing import Cropped, unusable
from dcgan.system.files import significant

_MOST_ENDINGS = 5  # limit for the endings of files in one line
_MOST_GROUPS = 100  # limit for the listed groups of equal faces


def describe(raw: Path, faces: Path, cropped: Mapping[str, Cropped], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data card, as written to reports/data.json.

    Args:
        cropped: the result of `packing.pack` for each split.
        pixels: the settings of the crop (crop_size, image_size, nc).
    """
    pictures, source = read_index(raw)
    left_out = read_left_out(raw)
    table = pd.read_parquet(faces / "faces.parquet")
    return {
        "source": source.about(),
        "faces": {split: len(cropped[split].digests) for split in SPLITS},
        "pixels": dict(pixels),
        "dataset_size": {"taken": len(pictures), "of": left_out.found},
        "passed_over": left_out.passed_over,
        "enlarged": sum(cropped[split].enlarged for split in SPLITS),
        "channels": channels(shown(cropped)),
        "attributes": frequencies(table),
        "duplicates": duplicates(table, [digest for split in SPLITS for digest in cropped[split].digests]),
        "bad": [row for split in SPLITS for row in unusable(pictures[pictures["split"] == split], cropped[split])],
    }


def shown(cropped: Mapping[str, Cropped]) -> Cropped:
    """Returns the faces whose mean and channels the card gives: those of the train split, or all if it has none."""
    if cropped["train"].digests:
        return cropped["train"]
    parts = cropped.values()
    return Cropped(
        [result for part in parts for result in part.results],
        np.sum([part.total for part in parts], axis=0),
        np.sum([part.total_squared for part in parts], axis=0),
        sum(part.enlarged for part in parts),
    )


def left_out(card: Mapping[str, Any]) -> str:
    """Returns one line about what was left out or is poor, from a data card; empty if there is nothing to say."""
    taken, found = card["dataset_size"]["taken"], card["dataset_size"]["of"]
    endings: dict[str, Counter[str]] = {}
    for kind in card["passed_over"]:
        endings.setdefault(kind["reason"], Counter())[kind["ending"] or "no ending"] += kind["files"]
    said = [f"dataset_size: {taken:,} of {found:,} pictures taken"] if taken < found else []
    if endings:
        kinds = (f"{counted.total():,} ({reason}: {_most(counted)})" for reason, counted in endings.items())
        said.append(f"passed over: {', '.join(kinds)}")
    if card["enlarged"]:
        refused = "refused" if card["pixels"].get("refuse_enlarged") else "enlarged"
        said.append(f"smaller than image_size: {card['enlarged']:,} ({refused})")
    if bad := card["bad"]:
        said.append(f"not used: {len(bad):,} (the first is {bad[0]['file']}: {bad[0]['reason']})")
    return "; ".join(said)


def _most(endings: Counter[str]) -> str:
    listed = ", ".join(f"{ending} {count:,}" for ending, count in endings.most_common(_MOST_ENDINGS))
    return listed + (", ..." if len(endings) > _MOST_ENDINGS else "")


def mean_image(cropped: Cropped) -> Pixels:
    """Returns the mean of the faces, uint8 (H, W, C); black if there are no faces."""
    mean: Pixels = np.rint(cropped.total / max(len(cropped.digests), 1)).astype(np.uint8)
    return mean


def channels(cropped: Cropped) -> dict[str, list[float]]:
    """Returns mean and standard deviation of each channel over all pixels of the faces, with levels from 0 to 1."""
    pixels = max(len(cropped.digests), 1) * cropped.total.shape[0] * cropped.total.shape[1]
    mean = cropped.total.sum(axis=(0, 1)) / pixels
    variance = cropped.total_squared.sum(axis=(0, 1)) / pixels - mean**2
    return {
        "mean": [significant(value / 255) for value in mean],
        "std": [significant(value / 255) for value in np.sqrt(np.maximum(variance, 0))],
    }


def frequencies(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Returns the share of faces that have an attribute, for each attribute and each split that holds faces."""
    present = table.drop(columns=["file", "split"]) > 0
    shares = present.groupby(table["split"]).mean().reindex([split for split in SPLITS if split in set(table["split"])])
    return {str(name): {str(k): round(float(v), 4) for k, v in column.items()} for name, column in shares.items()}


def duplicates(table: pd.DataFrame, digests: list[bytes]) -> dict[str, Any]:
    """Finds faces with the same pixels as an earlier face.

    Returns:
        `pictures`: the number of such faces; `across_splits`: the number of groups of equal faces that lie in more than
        one split, which means that the splits are not disjoint; `groups`: the files of the first groups.
    """
    equal = table.assign(digest=digests).loc[lambda t: t["digest"].duplicated(keep=False)]
    groups = equal.groupby("digest", sort=False)
    return {
        "pictures": len(equal) - groups.ngroups,
        "across_splits": int((groups["split"].nunique() > 1).sum()),
        "groups": groups["file"].agg(list).tolist()[:_MOST_GROUPS],
    }
