"""The table of distances by step, for a chart."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dcgan.report import distances
from reports import metrics

LOSSES = pd.DataFrame({"step": [2, 4, 6], "d_loss": [1.0, 0.5, 0.25]})


def test_the_distance_while_training_is_drawn_where_it_was_measured() -> None:
    table = distances.table(metrics(), LOSSES.assign(quick_frechet_distance=[np.nan, 300.0, 200.0]))
    assert table.to_dict("list") == {"step": [4, 6], "distance": [300.0, 200.0], "of": ["quick distance"] * 2}


def test_without_it_those_before_and_after_training_are_drawn_beside_the_floor() -> None:
    measured = metrics()
    for losses in (LOSSES, LOSSES.assign(quick_frechet_distance=np.nan)):
        table = distances.table(measured, losses).set_index(["of", "step"])["distance"]
        assert table["before and after training"].to_dict() == {
            0: measured["frechet_distance_untrained"],
            6: measured["frechet_distance"],
        }
        assert table["floor"].to_dict() == dict.fromkeys((0, 6), measured["frechet_distance_floor"])


def test_where_nothing_could_be_measured_the_table_is_empty() -> None:
    table = distances.table({}, LOSSES)
    assert list(table) == ["step", "distance", "of"] and table.empty
