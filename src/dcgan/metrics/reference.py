"""The features and statistics of the real faces, computed once for each data set, crop and network.

A folder holds `statistics.safetensors` and one `<split>.npy` for each split: the features of all faces of the split,
float32 (N, D), which readers memory-map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from dcgan.data.index import SPLITS
from dcgan.metrics import frechet
from dcgan.metrics.collecting import Pictures, collect, statistics_of
from dcgan.metrics.feature_networks import FeatureNetwork
from dcgan.system.errors import UserError
from dcgan.system.ranks import ALONE, Ranks

Features = npt.NDArray[np.float32]
COMPARED = 10_000  # most features that are used by metrics that compare pairs
_SEED = 1  # chooses the faces that are compared; part of the protocol, not a setting
_STATISTICS = "statistics.safetensors"


@dataclass(frozen=True)
class Reference:
    """Real faces of one split or all: their statistics, and the features of at most COMPARED of them, random ones."""

    statistics: frechet.Statistics
    features: Features


class References(Protocol):
    """Returns the reference of a split (train, valid, test, all), or None if it has fewer than two faces.

    With `most`, it is that of at most so many faces, random ones.
    """

    def __call__(self, split: str, most: int | None = None) -> Reference | None: ...


def write(
    folder: Path, network: FeatureNetwork, splits: Mapping[str, tuple[Pictures, int]], ranks: Ranks = ALONE
) -> None:
    """Writes the statistics and features of splits into a new folder.

    A split without faces is left out. One with a single face only counts among all splits.

    Args:
        splits: the pictures and the number of pictures of each split.
        ranks: every rank calls this function; only rank 0 writes.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for split, (pictures, count) in splits.items():
        if not count:
            continue
        features = None
        if ranks.writes:
            folder.mkdir(exist_ok=True)
            features = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, (count, network.dimensions))
        known = collect(network, pictures, count, f"features of {split}", features, ranks, least=1)
        arrays |= {f"{split}.mean": known.mean, f"{split}.covariance": known.covariance}
    if ranks.writes:
        about = {
            "network": network.name,
            "weights_sha256": network.weights_sha256,
            "dithering_levels": network.dithering_levels,
            "compiled": network.graph is not None,
        }
        (folder / _STATISTICS).write_bytes(save(arrays, {"dcgan": json.dumps(about, sort_keys=True)}))


def open_features(folder: Path, split: str) -> Features | None:
    """Opens the features of all faces of a split (train, valid, test), memory-mapped, or reads those of all splits.

    Returns None if there are no faces.
    """
    paths = [folder / f"{name}.npy" for name in SPLITS if split in (name, "all")]
    parts = [np.load(path, mmap_mode="r") for path in paths if path.exists()]
    return np.concatenate(parts) if len(parts) > 1 else next(iter(parts), None)


def load(folder: Path, network: FeatureNetwork) -> References:
    """Returns the references in a folder.

    Raises:
        UserError: the folder was computed with other weights.
    """
    with safe_open(folder / _STATISTICS, "np") as file:
        about = json.loads(file.metadata()["dcgan"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if (about["network"], about["weights_sha256"]) != (network.name, network.weights_sha256):
        raise UserError(
            f"{folder}: it was computed with the weights of {about['network']} with SHA-256 "
            f"{about['weights_sha256']}, not with those in use now; run `dvc repro`."
        )
    features = {name.partition(".")[0]: open_features(folder, name.partition(".")[0]) for name in arrays}
    present = {split: of_split for split, of_split in features.items() if of_split is not None}

    def known(name: str) -> frechet.Statistics:
        mean, rows = arrays[f"{name}.mean"], present[name]
        few = rows if len(rows) <= len(mean) else None  # as `collect` returned them
        return frechet.Statistics(len(rows), mean, arrays[f"{name}.covariance"], few)

    def of(split: str, most: int | None = None) -> Reference | None:
        parts = [name for name in present if split in (name, "all")]
        count = sum(len(present[name]) for name in parts)
        if count < 2:
            return None
        if most is not None and most < count:
            some = _chosen([present[name] for name in parts], most)
            return Reference(statistics_of(some), some[:COMPARED])
        chosen = _chosen([present[name] for name in parts], COMPARED)
        return Reference(frechet.merge(map(known, parts)), chosen)

    return of


def _chosen(parts: list[Features], most: int) -> Features:
    """Returns at most `most` random rows of several arrays, in random order."""
    ends = np.cumsum([len(part) for part in parts])
    chosen = np.random.default_rng(_SEED).permutation(ends[-1])[:most]
    result = np.empty((len(chosen), parts[0].shape[1]), np.float32)
    for part, end in zip(parts, ends, strict=True):
        in_part = (chosen >= end - len(part)) & (chosen < end)
        result[in_part] = part[chosen[in_part] - (end - len(part))]
    return result
