"""Inputs of a report, made up for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pictures import encoded
from project import ROOT

from dcgan.data.images import grid, to_image
from dcgan.data.index import SPLITS
from dcgan.params import load_preset, preset_names
from dcgan.report.page import Inputs
from dcgan.training.step import COLUMNS

PRESETS = {name: load_preset(ROOT / "presets", name).model_dump() for name in preset_names(ROOT / "presets")}


def faces(count: int, side: int = 64, variety: float = 1.0, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Faces (N, side, side, 3) of 8x8 coloured squares, with so much of the variety of those with variety 1."""
    random = np.random.default_rng(seed)
    coarse = 128 + variety * random.normal(0, 40, (count, 8, 8, 3)).clip(-120, 120)
    return coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2).astype(np.uint8)


def sheet(count: int = 64, columns: int = 8, side: int = 64, variety: float = 1.0, seed: int = 0) -> bytes:
    """A PNG of a grid of such faces."""
    return encoded(to_image(grid(faces(count, side, variety, seed), columns)))


def metrics(name: str = "frechet_distance", network: str = "efficientnet_lite0", **changed: Any) -> dict[str, Any]:
    """What metrics.json could hold."""
    values: dict[str, Any] = {name: 123.4, f"{name}_untrained": 1000.5, f"{name}_grey": 900.25, f"{name}_floor": 45.6}
    values |= {"network": network, "samples": 2000, "reference_count": 4000, "reference_split": "train"}
    values |= {f"{name}_mean": 124.5, f"{name}_std": 1.5, "repeats": 3, "floor_count": 500, "sample_precision": 0.75}
    values |= {"untrained_samples": 2000, "scores_count": 500, "sampling_seed": 1, f"{name}_at_floor_count": 130.5}
    values |= {"floor_split": "test", "floor_reference": "train", "sample_precision_floor": 0.875}
    values |= {"samples_of_copies": 2000, "valid_of_copies": 500, "test_of_copies": 500}
    values |= {"copies": 0.0105, "copies_low": 0.002, "copies_high": 0.05, "copies_floor": 0.012}
    values |= {
        "copies_verdict": "no copies found",
        "data_source": "drawn",
        "crop": None,
        "resolution": 64,
        "channels": 3,
    }
    return values | changed


def inputs(variety: float = 1.0, side: int = 64, epochs: int = 3, **changed: Any) -> Inputs:
    """Inputs of a report whose generated faces have so much of the variety of the real ones."""
    steps = np.arange(1, 201) * 5
    losses = pd.DataFrame({"step": steps, **{c: 0.5 + 0.4 * np.sin(steps / 7 + len(c)) for c in COLUMNS}})
    names = {"samples.png": (64, 8), "interpolation.png": (80, 10), "sheet.png": (36, 6), "neighbours.png": (96, 12)}
    pictures = {name: sheet(*counts, side, variety, 1) for name, counts in names.items()}
    pictures |= {"real.png": sheet(side=side), "mean.png": encoded(to_image(faces(1, side)[0]))}
    data = {
        "source": {"name": "drawn", "licence": "free", "citation": "A: B. 2020", "url": "https://example.org"},
        "faces": {"train": 4000, "valid": 500, "test": 500},
        "pixels": {"crop_size": None, "image_size": side, "nc": 3, "refuse_enlarged": False},
        "channels": {"mean": [0.5, 0.25, 0.125], "std": [0.1, 0.2, 0.3]},
        "attributes": {"Smiling": {"train": 0.5, "valid": 0.4, "test": 0.3}, "Bald": dict.fromkeys(SPLITS, 0.0)},
        "duplicates": {"pictures": 3, "across_splits": 2, "groups": [["a.jpg", "b.jpg"]]},
        "dataset_size": {"taken": 5000, "of": 5200},
        "passed_over": [{"reason": "it is hidden", "ending": f"{i}", "files": i, "first": "x"} for i in range(22)],
        "enlarged": 17,
        "bad": [{"file": f"{i}.jpg", "reason": "it is truncated"} for i in range(25)],
    }
    made = Inputs(
        metrics=metrics(resolution=side),
        data=data,
        model={"settings": {"ngf": 32}, "keep": "last", "step": 1000},
        generator="ab" * 32,
        faces="cd" * 16 + ".dir",
        params=PRESETS["avatars"] | {"lr": 0.0005, "crop_size": 108, "augment": True},
        presets=PRESETS,
        losses=losses,
        pictures=pictures,
        progress=[sheet(side=side, seed=epoch) for epoch in range(epochs + 1)],
    )
    return dataclasses.replace(made, **changed)
