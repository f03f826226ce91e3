"""Statistics of real faces' features: computed once for each data set, crop and network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dcgan.errors import UserError
from dcgan.files import atomic
from dcgan.images import Faces, Pixels
from dcgan.metrics import frechet
from dcgan.metrics.feature_networks import FeatureNetwork, features
from dcgan.progress import progress

BATCH = 64  # pictures shown to a feature network at a time


def in_batches(faces: Faces) -> Iterator[Pixels]:
    """An array of faces, a batch at a time."""
    return (faces[i : i + BATCH] for i in range(0, len(faces), BATCH))


def statistics(network: FeatureNetwork, batches: Iterable[Pixels], count: int, what: str) -> frechet.Statistics:
    """Mean and covariance of the features of `count` pictures that come in batches of BATCH."""
    moments = frechet.Moments()
    for batch in progress(features(network, batches), -(-count // BATCH), what, "batches"):
        moments.add(batch)
    return moments.statistics()


def save(path: Path, splits: dict[str, frechet.Statistics], network: FeatureNetwork) -> None:
    """Writes the statistics of each split, float64, with the network that they are of."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split, s in splits.items():
        arrays |= {f"{split}.mean": s.mean, f"{split}.covariance": s.covariance, f"{split}.count": np.array(s.count)}
    about = {"network": network.name, "weights_sha256": network.weights_sha256}
    with atomic(path) as temporary:
        save_file(arrays, temporary, {"dcgan": json.dumps(about, sort_keys=True)})


def load(path: Path, network: FeatureNetwork) -> dict[str, frechet.Statistics]:
    """The statistics of each split that has any, and of `all` together.

    Raises:
        UserError: they are of another network.
    """
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["dcgan"])
        if about["weights_sha256"] != network.weights_sha256:
            raise UserError(f"{path}: it is of the network {about['network']}, not {network.name}; run `dvc repro`.")
        get = file.get_tensor
        names = sorted({name.split(".")[0] for name in file.keys()})  # noqa: SIM118
        splits = {
            s: frechet.Statistics(int(get(f"{s}.count")), get(f"{s}.mean"), get(f"{s}.covariance")) for s in names
        }
    return splits | {"all": frechet.merge(splits.values())}
