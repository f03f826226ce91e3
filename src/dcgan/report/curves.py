"""The curves of a training as lines and bands in a drawing, each with a linear and a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

WIDTH, HEIGHT = 480, 270  # of the drawing
LEFT, RIGHT, TOP, BOTTOM = 56, 470, 12, 232  # where the curves are in it
_BANDS = 100  # at most so many windows of a band
_SMOOTH = 40  # a smooth line is the median of this share of the steps
_FEW = 60  # points, of fewer of which each is drawn

Array = npt.NDArray[np.float64]


class Tick(NamedTuple):
    """A mark on an axis: its place in the drawing and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """What a chart draws on one scale; paths in SVG's syntax, one for each series."""

    name: str  # linear, log
    ticks: list[Tick]
    lines: list[str]
    bands: list[str]
    dots: list[list[tuple[float, float]]]


@dataclass(frozen=True)
class Chart:
    """A chart: its series by column of losses.csv, and the drawing on each scale that it can have."""

    title: str
    names: dict[str, str]
    steps: list[Tick]
    last: int  # the step at the right end
    scales: list[Scale]


def charts(losses: pd.DataFrame) -> list[Chart]:
    """The charts of losses.csv: losses, the discriminator's beliefs, and the distance if it was measured."""
    believed = {"d_real": "D(x)", "d_fake_before": "D(G(z)) before the update", "d_fake_after": "D(G(z)) after it"}
    drawn = [
        chart(losses, "Losses", {"d_loss": "discriminator", "g_loss": "generator"}),
        chart(losses, "What the discriminator believes", believed, (0.0, 1.0)),
    ]
    measured = losses.filter(["step", "quick_frechet_distance"]).dropna()
    if measured.shape[1] == 2 and len(measured):
        title = "Quick Frechet distance while training"
        drawn.append(chart(measured, title, {"quick_frechet_distance": "efficientnet_lite0_dithered"}))
    return drawn


def smoothing(losses: pd.DataFrame) -> int:
    """The number of steps over which a smooth line is the median."""
    rows = _window(len(losses))
    return int(rows * losses["step"].iloc[-1] // len(losses)) if rows > 1 else 0


def chart(table: pd.DataFrame, title: str, names: dict[str, str], ends: tuple[float, float] | None = None) -> Chart:
    """Draws columns of a table over its column `step`.

    Args:
        names: what each column is called.
        ends: the ends of the linear scale; None: those of the values.
    """
    steps, last = table["step"].to_numpy(np.float64), int(table["step"].iloc[-1])
    x = LEFT + (RIGHT - LEFT) * steps / last
    columns = [table[column].astype(float) for column in names]
    scales = [_scale("linear", x, columns, ends, lambda values: values, _linear_ticks)]
    if any((column > 0).any() for column in columns):
        positive = [column.where(column > 0) for column in columns]
        scales.append(_scale("log", x, positive, None, np.log10, _log_ticks))
    across = [Tick(LEFT + (RIGHT - LEFT) * step / last, f"{step:,.0f}") for step in _round_numbers(0, last, 4)]
    return Chart(title, names, across, last, scales)


def _scale(
    name: str,
    x: Array,
    columns: Sequence[pd.Series[float]],
    ends: tuple[float, float] | None,
    transformed: Callable[[Array], Array],
    ticks: Callable[[float, float], list[tuple[float, str]]],
) -> Scale:
    few = len(x) < _FEW
    lines = [transformed(_smooth(column)) for column in columns]
    bands = [] if few else [_band(x, transformed(np.asarray(column, np.float64))) for column in columns]
    shown = np.concatenate([*lines, *(side for band in bands for side in band[1:])])
    low, high = ends or (float(np.nanmin(shown)), float(np.nanmax(shown)))
    margin = 0.0 if ends else 0.04 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def y(values: Array) -> Array:
        return BOTTOM - (BOTTOM - TOP) * (np.clip(values, low, high) - low) / (high - low)

    return Scale(
        name,
        [Tick(float(y(np.array([value]))[0]), label) for value, label in ticks(low, high)],
        [_path(x, y(line)) for line in lines],
        [_area(at, y(lower), y(upper)) for at, lower, upper in bands],
        [_points(x, y(line)) for line in lines] if few else [],
    )


def _window(rows: int) -> int:
    """An odd number of rows, over which the smooth line of a table of so many rows is the median."""
    return 1 if rows < _FEW else 2 * (rows // _SMOOTH // 2) + 1


def _smooth(column: pd.Series[float]) -> Array:
    window = _window(len(column))
    median = column.rolling(window, center=True, min_periods=1).median()
    smoothed: Array = median.rolling(window, center=True, min_periods=1).mean().to_numpy(np.float64)
    return smoothed


def _band(x: Array, values: Array) -> tuple[Array, Array, Array]:
    """Between which values four fifths of a curve lie: places, lower and upper ends, a window at a time."""
    parts = [part for part in np.array_split(np.arange(len(x)), _BANDS) if not np.isnan(values[part]).all()]
    ends = np.array([np.nanquantile(values[part], (0.1, 0.9)) for part in parts]).reshape(-1, 2)
    return np.array([float(x[part].mean()) for part in parts]), ends[:, 0], ends[:, 1]


def _points(x: Array, y: Array) -> list[tuple[float, float]]:
    return [(round(float(a), 1), round(float(b), 1)) for a, b in zip(x, y, strict=True) if not math.isnan(b)]


def _path(x: Array, y: Array) -> str:
    """A line through all points; a gap is bridged."""
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in _points(x, y))


def _area(x: Array, lower: Array, upper: Array) -> str:
    return _path(np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]])) + "Z"


def _round_numbers(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, about so many."""
    raw = max(high - low, 1e-12) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    return [(value, f"{round(value, 10):g}") for value in _round_numbers(low, high, 5)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten between two exponents; within less than two of them, 2 and 5 times those too."""
    factors = (1, 2, 5) if high - low < 2 else (1,)
    if high - low < 0.5:
        return [(math.log10(value), f"{value:g}") for value in _round_numbers(10**low, 10**high, 4) if value > 0]
    powers = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, round((high - low) / 6))
    values = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
    return [(math.log10(value), f"{value:g}") for value in values if low <= math.log10(value) <= high]
