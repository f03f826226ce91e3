"""The names of metrics in MLflow, whose UI draws one section of charts for each group: `distance/frechet_distance`.

Elsewhere a metric has its plain name, that of metrics.json and losses.csv. Runs of older versions have plain names in
MLflow too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dcgan.metrics.names import FID, FRECHET_DISTANCE

Value = TypeVar("Value")

# By the first or the last words of a plain name; others, those of the evaluation, are scores.
_FIRST = {
    "discriminator": ("d_real", "d_fake"),  # what it believes
    "distance": (FID, FRECHET_DISTANCE, "quick_frechet_distance", "kid", "kernel_distance", "floor_count"),
    "loss": ("d_loss", "g_loss", "penalty"),
    "speed": ("images_per_second", "peak_memory", "peak_gpu_memory"),
}
_LAST = {"speed": ("_share",)}
_OTHERS = "scores"
GROUPS = (*_FIRST, _OTHERS)
# From names in metrics.json of older versions, which were names of parameters too.
_RENAMED = {
    "precision": "sample_precision",
    "precision_floor": "sample_precision_floor",
    "recall": "sample_recall",
    "recall_floor": "sample_recall_floor",
    "seed": "sampling_seed",
    "image_size": "resolution",
    "nc": "channels",
    "dataset": "data_source",
    "crop_size": "crop",
}


def grouped(name: str) -> str:
    """The name in MLflow of a metric; one that already has a group, such as `system/...`, keeps its name."""
    if "/" in name:
        return name
    first = (group for group, words in _FIRST.items() if any((name + "_").startswith(f"{word}_") for word in words))
    last = (group for group, words in _LAST.items() if name.endswith(words))
    return f"{next(first, None) or next(last, _OTHERS)}/{name}"


def plain(name: str) -> str:
    """The plain name of a metric in MLflow."""
    group, _, rest = name.partition("/")
    return rest if rest and group in GROUPS else name


def plain_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a run in MLflow by their plain names; a run that went on in a newer version may have both."""
    return current({plain(name): metrics[name] for name in sorted(metrics, key=lambda name: "/" in name)})


def current(values: Mapping[str, Value]) -> dict[str, Value]:
    """Values of a metrics.json, also one of an older version, by the names that they have now."""
    return {_RENAMED.get(name, name): value for name, value in values.items()}
