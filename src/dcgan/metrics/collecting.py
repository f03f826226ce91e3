"""The inputs of all metrics: the features of pictures, and their statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcgan.data.images import Pixels
from dcgan.metrics.feature_networks import BATCH, FeatureNetwork
from dcgan.metrics.frechet import Moments, Statistics
from dcgan.system.errors import UserError
from dcgan.system.progress import progress
from dcgan.system.ranks import ALONE, Ranks

_ROWS = 1000  # features that are added to a sum at a time
Pictures = Callable[[slice], Tensor]  # the pictures with these numbers, uint8 (N, H, W, C), on any device


def collect(
    network: FeatureNetwork,
    pictures: Pictures,
    count: int,
    what: str,
    into: npt.NDArray[np.float32] | None = None,
    ranks: Ranks = ALONE,
    shown: bool = True,
    least: int = 2,
) -> Statistics:
    """Returns the statistics of the features of `count` pictures, computed BATCH pictures at a time.

    Args:
        what: name of the pictures, for the progress and for errors.
        into: (K, D) with K up to `count`; receives the features of the first K pictures.
        ranks: share the batches; each rank gets the features of all pictures.
        shown: whether the progress is shown.
        least: number of pictures that are enough; 1 only for statistics that are merged with others.

    Raises:
        UserError: there are fewer than `least` pictures, or their features are not finite.
    """
    moments, kept, start = Moments(), np.empty((0, network.dimensions), np.float32) if into is None else into, 0
    for batch in _in_order(network, pictures, count, what if shown else "", ranks):
        moments.add(batch)
        wanted = batch[: max(0, len(kept) - start)]
        kept[start : start + len(wanted)] = wanted.cpu().numpy()
        start += len(batch)
    try:
        return moments.statistics(least)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def statistics_of(features: npt.NDArray[np.float32]) -> Statistics:
    """Returns the statistics of features (N, D)."""
    moments = Moments()
    for rows in torch.from_numpy(features).split(_ROWS):
        moments.add(rows)
    return moments.statistics()


def _in_order(network: FeatureNetwork, pictures: Pictures, count: int, what: str, ranks: Ranks) -> Iterator[Tensor]:
    """Yields the features of all batches in order.

    All ranks get the batches of all ranks in this order, so that sums do not depend on the number of ranks.
    """
    starts = range(0, count, BATCH)
    rounds = range(0, len(starts), ranks.count)
    unit = "batches" if ranks.count == 1 else f"rounds of {ranks.count} batches"
    for first in progress(rounds, len(rounds), what, unit) if what and ranks.writes else rounds:
        turn = min(first + ranks.rank, len(starts) - 1)  # spare ranks repeat the last batch, unused
        numbers = slice(starts[turn], min(starts[turn] + BATCH, count))
        features = network.features(pictures(numbers), numbers.start)
        for start, batch in zip(starts[first : first + ranks.count], ranks.all_gather(features, BATCH), strict=False):
            yield batch[: count - start]


def of_faces(faces: Pixels) -> Pictures:
    """Returns packed faces as `Pictures`."""
    return lambda numbers: torch.from_numpy(np.array(faces[numbers]))  # a copy, since torch needs a writable array
