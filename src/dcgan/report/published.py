"""Published FIDs of DCGANs on CelebA at 64x64, each with its protocol as far as the authors' papers and code state it.

FIDs of different protocols cannot be compared: changing only the crop changes an FID by several points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DATASET = "CelebA, aligned and cropped"  # the name of the source in the data card
_INCEPTION = "pytorch-fid's Inception"  # its weights are those of TTUR's TensorFlow network


@dataclass(frozen=True)
class Published:
    """A published FID and its protocol; None means that the authors do not state the value."""

    model: str
    fid: float
    source: str
    crop: str | None  # of pictures with 178x218 pixels
    samples: int | None
    reference: str | None
    network: str
    selection: str


PUBLISHED = (
    Published("DCGAN", 21.4, "Heusel et al. 2017 (TTUR)", None, None, None, _INCEPTION, "not known"),
    Published(
        "DCGAN, two time-scales", 12.5, "Heusel et al. 2017 (TTUR)", None, None, None, _INCEPTION,
        "not known",
    ),
    Published(
        "SN-DCGAN, hinge loss", 8.95, "Wang et al. 2019, repository richardwth/MMD-GAN",
        "resized to 72x88, centre 64", 49_984, "49,984 of all", _INCEPTION, "the best of 96 settings",
    ),
    Published(
        "SN-DCGAN, repulsive MMD, bounded kernel", 6.42, "Wang et al. 2019, repository richardwth/MMD-GAN",
        "resized to 72x88, centre 64", 49_984, "49,984 of all", _INCEPTION, "the best of 96 settings",
    ),
    Published(
        "DCGAN, BCE", 17.95, "repository MTandHJ/gfk", "none, squeezed to a square", 10_112, "all",
        "torchvision's Inception", "before collapse",
    ),
    Published(
        "DCGAN, BCE, averaged", 15.88, "repository MTandHJ/gfk", "none, squeezed to a square", 10_112, "all",
        "torchvision's Inception", "before collapse",
    ),
    Published(
        "DCGAN, BCE, DiffAugment", 15.25, "repository MTandHJ/gfk", "none, squeezed to a square", 10_112, "all",
        "torchvision's Inception", "before collapse",
    ),
    Published(
        "DCGAN, relativistic, averaged", 15.55, "repository gau-nernst/gan", "178", 10_000, "10,000 of train",
        "pytorch-fid's Inception, on another range of values", "the last",
    ),
    Published(
        "SNGAN, a ResNet", 5.71, "repository kwotsin/mimicry", "178", 50_000, "50,000 of all", _INCEPTION,
        "not known",
    ),
)  # fmt: skip


def is_comparable(metrics: Mapping[str, Any]) -> bool:
    """Whether a run measured an FID on CelebA at 64x64 in colour."""
    pictures = metrics["data_source"], metrics["resolution"], metrics["channels"]
    return "fid" in metrics and pictures == (DATASET, 64, 3)


def differences(metrics: Mapping[str, Any], other: Published) -> list[str]:
    """The parts of the protocol of `other` that differ from the run's, each as `name: value of other`."""
    crop = str(metrics["crop"] or 178)
    split = metrics["reference_split"]
    rows = (
        ("crop", crop, other.crop),
        ("samples", metrics["samples"], other.samples),
        ("reference", f"{metrics['reference_count']:,} of {split}" if split != "all" else "all", other.reference),
        ("network", _INCEPTION, other.network),
    )
    return [
        f"{name}: {'not known' if theirs is None else f'{theirs:,}' if isinstance(theirs, int) else theirs}"
        for name, ours, theirs in rows
        if ours != theirs
    ]
