"""The distance over the steps of a training, as a table for a chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dcgan.metrics.names import distance_name


def table(metrics: Mapping[str, Any], losses: pd.DataFrame) -> pd.DataFrame:
    """The distance by step, with columns `step`, `distance` and `of`, the name of the curve.

    It is the quick distance where that was measured while training. Otherwise it is that of the evaluation, before and
    after the training, with its floor; the two are measured differently and do not belong into one chart.

    Args:
        metrics: contents of reports/metrics.json.
        losses: contents of reports/losses.csv.
    """
    measured = losses.filter(["step", "quick_frechet_distance"]).dropna()
    if measured.shape[1] == 2 and len(measured):
        return measured.set_axis(["step", "distance"], axis=1).assign(of="quick distance")
    name, last = distance_name(metrics), int(losses["step"].iloc[-1])
    ends = {
        "before and after training": (f"{name}_untrained", name),
        "floor": (f"{name}_floor", f"{name}_floor"),
    }
    rows = [
        (step, metrics[key], of)
        for of, keys in ends.items()
        for step, key in zip((0, last), keys, strict=True)
        if metrics.get(key) is not None
    ]
    return pd.DataFrame(rows, columns=["step", "distance", "of"])
