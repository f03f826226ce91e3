"""The evaluation of a generator: how far its faces are from real ones, and baselines to compare with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dcgan.data.images import Pixels, side_by_side
from dcgan.metrics import copies, floors, scores
from dcgan.metrics.collecting import Pictures, collect, statistics_of
from dcgan.metrics.feature_networks import FeatureNetwork
from dcgan.metrics.frechet import Statistics, frechet_distance
from dcgan.metrics.reference import COMPARED, Features, Reference, References
from dcgan.networks import Generator, build
from dcgan.sampling import generated, random_state, refresh_batch_norm
from dcgan.system.files import significant
from dcgan.system.ranks import ALONE, Ranks

LEAST_FOR_FID = 10_000  # samples, recommended by the authors of FID (github.com/bioinf-jku/TTUR)
GREY = 128  # level of the grey pictures
UNTRAINED_SAMPLES = 2000  # at most; this baseline needs only an order of magnitude
logger = logging.getLogger(__name__)
_SHOWN, _NEIGHBOURS = 8, 5  # rows in the picture of neighbours, and training faces beside each generated face


@dataclass(frozen=True)
class Evaluation:
    """The metrics with their protocol, and a picture of nearest neighbours."""

    metrics: dict[str, Any]
    neighbours: Pixels  # generated faces and their nearest training faces


def untrained(generator: Generator, seed: int) -> Generator:
    """Returns an untrained generator with the same settings, on the same device."""
    fresh, _ = build(generator.settings, random_state(seed, "weights"))
    refresh_batch_norm(fresh, seed, batches=4)
    return fresh.to(_device(generator))


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def evaluate(
    generator: Generator,
    network: FeatureNetwork,
    references: References,
    split: str,
    samples: int,
    repeats: int,
    seed: int,
    training: copies.Training,
    ranks: Ranks = ALONE,
) -> Evaluation | None:
    """Computes the distances and scores of `samples` generated faces against the real faces of `split`.

    The Frechet distance is that of the first draw; `_mean` and `_std` are over `repeats` draws. Two baselines are
    `_untrained` and `_grey`, of an untrained generator and of grey pictures, which a trained generator must undercut.
    The `_floor` of a metric is its value for real faces in the place of the generated ones. That of the Frechet
    distance uses at most `samples` of them, and `_at_floor_count` is the generator's distance with as many. What there
    are too few faces for is left out, as `left_out.left_out` says. The distances are called `fid` and `kid` only for
    pytorch-fid's Inception with its published weights.

    Args:
        training: the faces that the generator was trained on, to search for copies.
        ranks: all call this function; rank 0 gets the result, the others None.

    Raises:
        UserError: some features are not finite.
    """
    if network.is_fid and samples < LEAST_FOR_FID and ranks.writes:
        logger.warning("fid_samples: %d is low; published FIDs use at least 10,000 samples, mostly 50,000.", samples)
    real = references(split)
    floor = floors.floor(references, split, real, samples)
    kept = max(COMPARED, floor.faces.statistics.count if floor else 0)

    drawn = _draw(generator, network, samples, repeats, seed, kept, ranks)
    if not ranks.writes:
        return None
    features = drawn.features[:COMPARED]

    # Distances, and scores of the same features.
    device = _device(generator)
    metrics = _distances(network.distance_name, drawn, real, floor)
    metrics |= scores.scores(features, real, floor, "kid" if network.is_fid else "kernel_distance", device)
    made = generated(generator, seed)
    searched = copies.search(made, min(samples, COMPARED), training, _NEIGHBOURS, device)
    metrics |= searched.metrics
    picture = _picture(made, searched.rows, searched.apart, training.faces)

    rounded = {key: significant(value) if value is not None else None for key, value in metrics.items()}
    protocol = {
        **_described(network),
        "samples": samples,
        "repeats": repeats,
        "untrained_samples": drawn.untrained.count,
        **_counts(split, real, floor, features),
        **searched.protocol,
        "sampling_seed": seed,
        "resolution": generator.settings.image_size,
        "channels": generator.settings.nc,
    }
    return Evaluation(rounded | protocol, picture)


class _Drawn(NamedTuple):
    """Features and statistics of the generated faces, and statistics of the baselines."""

    features: npt.NDArray[np.float32]  # (N, D), of the first N faces of the first draw
    draws: list[Statistics]
    untrained: Statistics
    grey: Statistics


def _draw(
    generator: Generator, network: FeatureNetwork, samples: int, repeats: int, seed: int, kept: int, ranks: Ranks
) -> _Drawn:
    """Generates the pictures and collects their features; all ranks share the work and get the result.

    Args:
        kept: at most so many faces of the first draw have their features kept.
    """
    features = np.empty((min(samples, kept), network.dimensions), np.float32)
    draws = [
        collect(
            network, generated(generator, seed, draw), samples, "generated faces", features if not draw else None, ranks
        )
        for draw in range(repeats)
    ]
    poor = generated(untrained(generator, seed), seed)
    of_untrained = collect(network, poor, min(samples, UNTRAINED_SAMPLES), "untrained generator", None, ranks)
    side, nc = generator.settings.image_size, generator.settings.nc
    grey = torch.full((2, side, side, nc), GREY, dtype=torch.uint8)  # two suffice, since all are equal
    return _Drawn(
        features, draws, of_untrained, collect(network, lambda numbers: grey[numbers], 2, "grey", shown=False)
    )


def _distances(name: str, drawn: _Drawn, real: Reference | None, floor: floors.Floor | None) -> dict[str, float | None]:
    """Returns the Frechet distance of the first draw, the mean and spread over all draws, and the baselines."""
    beside: dict[str, float | None] = {}
    if floor:
        beside[f"{name}_floor"] = frechet_distance(floor.faces.statistics, floor.real.statistics)
    if real is None:
        return beside
    if floor:
        count, first = floor.faces.statistics.count, drawn.draws[0]
        few = first if count == first.count else statistics_of(drawn.features[:count])
        beside[f"{name}_at_floor_count"] = frechet_distance(few, real.statistics)
    distances = [frechet_distance(statistics, real.statistics) for statistics in drawn.draws]
    return {
        name: distances[0],
        f"{name}_mean": float(np.mean(distances)),
        f"{name}_std": float(np.std(distances, ddof=1)) if len(distances) > 1 else None,
        f"{name}_untrained": frechet_distance(drawn.untrained, real.statistics),
        f"{name}_grey": frechet_distance(drawn.grey, real.statistics),
        **beside,
    }


def _described(network: FeatureNetwork) -> dict[str, Any]:
    """Returns the feature network, its weights, the noise on its pictures and its arithmetic, for the protocol."""
    return {
        "network": network.name,
        "dithering_levels": network.dithering_levels,
        "weights_sha256": network.weights_sha256,
        "arithmetic": network.arithmetic,
    }


def _counts(split: str, real: Reference | None, floor: floors.Floor | None, features: Features) -> dict[str, Any]:
    """Returns the splits and the numbers of their faces, for the protocol; None: too few for a distance."""
    floor_split, floor_reference = floors.splits(split)
    return {
        "reference_split": split,
        "reference_count": real.statistics.count if real else None,
        "floor_split": floor_split,
        "floor_reference": floor_reference,
        "floor_count": floor.faces.statistics.count if floor else None,
        "scores_count": scores.equal_count(features, real, floor),
    }


def _picture(
    faces: Pictures, rows: npt.NDArray[np.intp], apart: npt.NDArray[np.float64], training_faces: Pixels
) -> Pixels:
    """Returns a picture of generated faces, each followed by its nearest training faces.

    On the left are the first generated faces, on the right the generated faces that are nearest to a training face.

    Args:
        faces: the generated faces.
        rows: (N, K), numbers of the K nearest training faces of each generated face.
        apart: (N,), distance of each generated face to its nearest training face.
    """

    def sheet(numbers: npt.NDArray[np.intp]) -> Pixels:
        lines: list[Pixels] = []
        for number in numbers.tolist():
            face = faces(slice(number, number + 1)).cpu().numpy()
            lines += [face, *(training_faces[row : row + 1] for row in rows[number].tolist())]
        return np.concatenate(lines)

    shown, columns = min(_SHOWN, len(rows)), 1 + rows.shape[1]
    return side_by_side(sheet(np.arange(shown)), sheet(np.argsort(apart, kind="stable")[:shown]), columns)
