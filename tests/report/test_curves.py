"""The curves: lines and bands in their frame, on scales that show what the values are."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from dcgan.report import curves
from dcgan.report.curves import BOTTOM, LEFT, RIGHT, TOP, Chart, Scale


def table(values: npt.NDArray[np.float64], every: int = 5) -> pd.DataFrame:
    return pd.DataFrame({"step": every * np.arange(1, len(values) + 1), "loss": values})


def drawn(values: npt.NDArray[np.float64]) -> Chart:
    return curves.chart(table(values), "Losses", {"loss": "the loss"})


def points(path: str) -> npt.NDArray[np.float64]:
    return np.array([pair.split() for pair in re.sub("[MZ]", "", path).split("L")], np.float64)


def scale(chart: Chart, name: str) -> Scale:
    return next(each for each in chart.scales if each.name == name)


def value_at(scale: Scale, y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values read from the drawing, by its ticks."""
    (low, high), transformed = (scale.ticks[0], scale.ticks[-1]), np.log10 if scale.name == "log" else np.asarray
    first, last = (transformed(float(tick.label)) for tick in (low, high))
    read = first + (last - first) * (low.at - y) / (low.at - high.at)
    return np.asarray(10**read if scale.name == "log" else read)


def test_a_smooth_line_lies_in_a_band_that_holds_most_values() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 1000)
    linear = scale(drawn(20 + 5 * np.sin(np.arange(1000) / 150) + noise), "linear")
    (line,), (band,) = linear.lines, linear.bands
    x, y = points(line).T
    assert len(x) == 1000 and x[0] >= LEFT and x[-1] == RIGHT and y.min() >= TOP and y.max() <= BOTTOM
    expected = 20 + 5 * np.sin(np.arange(1000) / 150)
    assert np.abs(value_at(linear, y) - expected).max() < 1.2  # the noise itself deviates by 3
    upper, lower = np.split(points(band), 2)
    assert (upper[:, 1] <= lower[::-1, 1]).all() and len(upper) == 100


def test_few_points_are_drawn_as_they_are() -> None:
    linear = scale(drawn(np.array([400.0, 300.0, 250.0])), "linear")
    (dots,) = linear.dots
    assert not linear.bands and value_at(linear, np.array(dots)[:, 1]) == pytest.approx([400, 300, 250], abs=0.5)


@pytest.mark.parametrize("low", [1e-6, 0.3, 100.0])
def test_a_logarithmic_scale_shows_small_values(low: float) -> None:
    log = scale(drawn(np.geomspace(low, 1000, 50)), "log")
    read = value_at(log, points(log.lines[0])[:, 1])
    assert read == pytest.approx(np.geomspace(low, 1000, 50), rel=0.1)
    labels = [float(tick.label) for tick in log.ticks]
    assert labels == sorted(labels) and 2 <= len(labels) <= 12


def test_values_of_zero_and_less_have_no_logarithm() -> None:
    assert [each.name for each in drawn(-np.ones(80)).scales] == ["linear"]
    log = scale(drawn(np.where(np.arange(80) < 40, -1.0, 2.0)), "log")
    assert points(log.lines[0])[:, 0].min() > LEFT + 0.4 * (RIGHT - LEFT)


def test_constant_curves_and_a_single_point_have_a_scale() -> None:
    for values in (np.ones(200), np.zeros(200), np.array([3.0])):
        for each in drawn(values).scales:
            assert np.isfinite(points(each.lines[0])).all() and each.ticks


def test_steps_are_marked_where_they_are() -> None:
    chart = drawn(np.ones(744))
    for tick in chart.steps:
        step = int(tick.label.replace(",", ""))
        assert tick.at == pytest.approx(LEFT + (RIGHT - LEFT) * step / (744 * 5)) and step % 500 == 0
    assert len(chart.steps) >= 3 and chart.last == 744 * 5


def test_the_distance_is_a_curve_where_it_was_measured() -> None:
    columns = {
        name: np.linspace(0.1, 0.9, 100) for name in ("d_loss", "g_loss", "d_real", "d_fake_before", "d_fake_after")
    }
    losses = pd.DataFrame({"step": np.arange(1, 101), **columns})
    assert len(curves.charts(losses)) == 2
    losses["quick_frechet_distance"] = np.where(np.arange(100) % 25 == 24, 500.0, np.nan)
    *_, distance = curves.charts(losses)
    assert len(distance.scales[0].dots[0]) == 4 and "Frechet distance" in distance.title
