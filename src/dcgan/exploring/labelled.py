"""Faces with their attributes, chosen for a probe, and the attributes that there are enough faces for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dcgan.data.images import Pixels, open_faces

Labels = npt.NDArray[np.int8]  # (N, A): 1 present, -1 absent, 0 unknown
LEAST_TO_FIT, LEAST_TO_TEST = 50, 10  # faces with an attribute, and as many without it
_NOT_ATTRIBUTES = ["file", "split"]


class Labelled(NamedTuple):
    """Faces of a split, uint8 (N, H, W, C), with the values of all attributes."""

    pictures: Pixels
    labels: Labels
    names: list[str]


def choose(folder: Path, split: str, most: int, seed: int) -> Labelled:
    """Returns at most `most` faces of a split of the packed faces in `folder`, chosen at random with `seed`."""
    table = pd.read_parquet(folder / "faces.parquet")
    labels = table[table["split"] == split].drop(columns=_NOT_ATTRIBUTES)
    rows = np.sort(np.random.default_rng(seed).permutation(len(labels))[:most])
    return Labelled(
        open_faces(folder, split)[rows], labels.to_numpy(np.int8)[rows], [str(name) for name in labels.columns]
    )


def enough(fitted: Labelled, tested: Labelled) -> tuple[list[int], dict[str, str]]:
    """Returns the numbers of the attributes that can be probed, and why each other one is left out, by name."""
    kept, left_out = [], {}
    for number, name in enumerate(fitted.names):
        reasons = [
            f"{count} of {len(labels)} {split} faces {what} it"
            for split, labels, least in (
                ("train", fitted.labels[:, number], LEAST_TO_FIT),
                ("test", tested.labels[:, number], LEAST_TO_TEST),
            )
            for what, count in (("have", int((labels > 0).sum())), ("lack", int((labels < 0).sum())))
            if count < least
        ]
        if reasons:
            left_out[name] = "; ".join(reasons)
        else:
            kept.append(number)
    return kept, left_out
