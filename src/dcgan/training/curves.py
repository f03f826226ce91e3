"""The loss curves of a training, computed from the losses of every step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dcgan.training.step import COLUMNS


def points(history: npt.NDArray[np.float32], interval: int) -> list[tuple[int, dict[str, float]]]:
    """Returns the points that an observer receives: means over every `interval` steps, and over the rest at the end.

    A point holds the number of steps so far and the means by name. A mean covers the steps of the interval that have
    the value; if none has it, the name is left out.
    """
    curve = []
    for start in range(0, len(history), interval):
        part = history[start : start + interval]
        means = zip(COLUMNS, _means(part).tolist(), strict=True)
        curve.append((start + len(part), {name: mean for name, mean in means if not math.isnan(mean)}))
    return curve


def loss_table(
    history: npt.NDArray[np.float32], distances: Mapping[int, float], most_rows: int = 1000
) -> list[dict[str, float]]:
    """Returns the history in at most `most_rows` rows for plots, each the mean over a window of steps.

    Most steps do not compute the penalty. Its mean covers the steps that do, and is NaN if none does. The same holds
    for the distances; their column is present only if there are any.
    """
    measured = np.full((len(history), 1 if distances else 0), np.nan, np.float32)
    for step, distance in distances.items():
        measured[step - 1] = distance
    history = np.concatenate([history, measured], axis=1)
    columns = (*COLUMNS, "quick_frechet_distance")[: history.shape[1]]
    window = math.ceil(len(history) / most_rows)
    rows = []
    for start in range(0, len(history), window):
        part = history[start : start + window]
        rows.append({"step": start + len(part)} | dict(zip(columns, _means(part).tolist(), strict=True)))
    return rows


def _means(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Returns the mean of each column over the rows that have a value there, or NaN if none has."""
    taken = ~np.isnan(rows)
    sums, counts = np.where(taken, rows, 0).sum(axis=0, dtype=np.float64), taken.sum(axis=0)
    return np.divide(sums, counts, out=np.full(rows.shape[1], np.nan), where=counts > 0)


def describe(means: Mapping[str, float]) -> str:
    """Formats the losses as the DCGAN tutorials print them; returns an empty string if there are none yet."""
    text = "Loss_D {d_loss:.3f} Loss_G {g_loss:.3f} D(x) {d_real:.3f} D(G(z)) {d_fake_before:.3f} / {d_fake_after:.3f}"
    return text.format(**means) if means else ""
