"""The description of a run in MLflow."""

from __future__ import annotations

from typing import Any

import pytest
from project import ROOT

from dcgan.params import load, load_preset, preset_names
from dcgan.report import description
from reports import metrics

PARAMS = load(ROOT / "presets" / "avatars.yaml").model_dump()
PRESETS = {name: load_preset(ROOT / "presets", name).model_dump() for name in preset_names(ROOT / "presets")}


def render(changed: dict[str, str] | None, measured: dict[str, Any] | None, **params: Any) -> str:
    return description.render(PARAMS | params, PRESETS, changed, measured)


def test_it_says_what_differs_the_distance_the_floor_and_how_to_rebuild_it() -> None:
    measured = metrics(frechet_distance=253.9, frechet_distance_std=1.5, frechet_distance_floor=44.58)
    first, differs, params, *others = render({"lr": "0.0004"}, measured, lr=0.0004).split("\n\n")
    assert first.startswith("**253.9 ± 1.5**, Frechet distance with efficientnet_lite0 of ")
    assert "floor 44.58 with " in first and "untrained " in first
    assert differs == "Differs from the committed params.yaml: **lr 0.0004**."
    assert params.split(", ") == [f"{key} {PARAMS[key] if key != 'lr' else 0.0004}" for key in description.SHOWN]
    assert f"![generated faces](get-artifact?run_uuid={description.PICTURES_OF}&path=samples.png)" in others
    assert f"`dcgan reproduce {description.RUN}`" in others[-2]
    assert others[-1] == "```\ndcgan preset avatars\ndvc exp run -S lr=0.0004\n```"


@pytest.mark.parametrize(
    ("changed", "said"),
    [({}, "Parameters as committed."), (None, "No committed params.yaml to compare with.")],
)
def test_a_run_that_is_not_evaluated_yet_has_no_distance_and_no_picture(changed: Any, said: str) -> None:
    first, *others = render(changed, None).split("\n\n")
    assert first == said and others[-1] == "```\nmake repro PRESET=avatars\n```"
    assert "get-artifact" not in str(others) and "dcgan reproduce" not in str(others)


def test_a_distance_that_could_not_be_measured_is_not_invented() -> None:
    assert render({}, {"network": "inception"}).startswith("There were too few real faces to measure a distance.")
