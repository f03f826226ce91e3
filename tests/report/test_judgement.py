"""The one sentence on a run: what is bad is said plainly, whatever else is good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pictures import encoded

from dcgan.data.images import grid, to_image
from dcgan.report.judgement import COLLAPSED, judge
from dcgan.report.page import render
from dcgan.report.pictures import Variety, variety
from dcgan.training import diversity
from reports import faces, inputs, metrics, sheet

NAME, VARIED = "frechet_distance", Variety(0.9, 0.9)


def at(distance: float, **changed: Any) -> dict[str, Any]:
    """The metrics of a run whose distance is the same with any number of faces; untrained 1000.5, floor 45.6."""
    return metrics(**{NAME: distance, f"{NAME}_at_floor_count": distance} | changed)


@pytest.mark.parametrize(
    ("measured", "kind", "words"),
    [
        (at(1200.0), "failed", "Worse than untrained: the distance is above the 1,000 of the same generator"),
        (at(980.0), "failed", "No better than untrained"),
        (at(930.0), "poor", "plain grey pictures are nearer to real faces, with a distance of 900.2"),
        (
            at(400.0),
            "learnt",
            "Learnt, but not yet real: the distance is 40% of the untrained generator's, and 8.8 times",
        ),
        (at(60.0), "near", "Near the floor: the distance is 60, and that of as many real faces 45.6."),
        (at(60.0, copies_verdict="copies"), "poor", "Near the floor but it copies training faces"),
        (at(400.0, copies_verdict="copies"), "poor", "Learnt but it copies training faces"),
        (at(400.0, **{f"{NAME}_floor": None}), "learnt", "Better than untrained: the distance is 40%"),
        (metrics() | {NAME: None}, "unmeasured", "No distance was measured"),
    ],
)
def test_a_run_is_judged_by_its_distance(measured: dict[str, Any], kind: str, words: str) -> None:
    judgement = judge(measured, VARIED)
    assert judgement.kind == kind and words in judgement.sentence
    assert judgement.sentence.endswith(".") and ". " not in judgement.sentence


def test_near_the_floor_is_judged_with_as_many_faces() -> None:
    """With 50,000 faces the distance is lower than the floor of 500, which says nothing."""
    assert judge(at(40.0) | {f"{NAME}_at_floor_count": 300.0}, VARIED).kind == "learnt"


@pytest.mark.parametrize("distance", [1200.0, 400.0, 60.0, None])
def test_a_collapse_is_named_whatever_the_distance(distance: float | None) -> None:
    judgement = judge(metrics() | {NAME: distance}, Variety(0.12, 0.9))
    assert judgement.kind == "failed" and judgement.sentence.startswith("Collapsed")
    assert "its faces have 12% of the variety of real faces" in judgement.sentence
    assert ("worse than untrained" in judgement.sentence) == (distance == 1200.0)


@pytest.mark.parametrize("count", [64, 50])
def test_variety_is_that_of_the_training(count: int) -> None:
    """Read from the grids, whose last row may be short, as `training.diversity` has it of the faces themselves."""
    made, real = faces(count, variety=0.4, seed=1), faces(count)
    expected = diversity.diversity(made) / diversity.diversity(real)
    assert variety(sheet(count, variety=0.4, seed=1), sheet(count), 64).spread == pytest.approx(expected, rel=1e-6)
    assert COLLAPSED == diversity.COLLAPSED


def test_variety_of_data_that_are_all_alike_is_no_collapse() -> None:
    alike = Variety(1, 1)
    assert variety(sheet(variety=0), sheet(variety=0), 64) == variety(sheet(), sheet(variety=0), 64) == alike
    assert variety(sheet(1, 1), sheet(1, 1), 64) == alike


@pytest.mark.parametrize("modes", [2, 8, 32])
def test_a_generator_that_repeats_a_few_faces_has_collapsed(modes: int) -> None:
    """Each of its 64 faces is one of a few, with a little noise, though they vary as much as real faces."""
    random = np.random.default_rng(modes)
    chosen = np.concatenate([np.arange(modes), random.integers(0, modes, 64 - modes)])
    repeated = faces(modes)[chosen] + random.integers(0, 9, (64, 64, 64, 3))
    found = variety(encoded(to_image(grid(repeated.astype(np.uint8), 8))), sheet(seed=1), 64)
    judgement = judge(metrics(), found)
    assert judgement.kind == "failed" and judgement.sentence.startswith("Collapsed: it repeats a few faces")
    assert (found.spread > COLLAPSED) and judge(metrics(), variety(sheet(seed=2), sheet(seed=1), 64)).kind == "learnt"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (inputs(variety=0.05), "Collapsed"),
        (inputs(metrics=at(1200.0)), "Worse than untrained"),
        (inputs(variety=0.05, metrics=at(1200.0)), "Collapsed and worse than untrained"),
    ],
)
def test_the_page_says_so_before_any_number(made: Any, words: str) -> None:
    html = render(made)
    assert html.index(f'<p class="judgement failed"><strong>{words}</strong>') < html.index('<p class="big">')
