"""A training of more epochs goes on from a finished one of fewer, to the bytes of one from the start."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dcgan.networks import Generator, Settings
from dcgan.system.hardware import Hardware
from dcgan.training.checkpoint import CheckpointStore, fingerprint
from dcgan.training.loop import Nobody, Quality, Result, train
from dcgan.training.step import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = Settings(image_size=32, nz=6, ngf=4, ndf=4, discriminator_norm="none")
RECIPE = Recipe(epochs=2, batch_size=8, loss="relativistic", r1_gamma=1.0, r1_interval=4, ema_halflife_kimg=0.02)
FACES = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)  # three steps an epoch


def run(root: Path, recipe: Recipe, quality: Quality | None = None, **others: Any) -> Result:
    parts = {"params": asdict(recipe), "data": "1", **others}
    store = CheckpointStore(root, fingerprint(parts), parts)
    machine = Hardware(torch.device("cpu"), "fp32")
    result = train(FACES, SETTINGS, recipe, machine, store, Nobody(), lambda: None, quality=quality)
    store.finish()
    return result


def contents(result: Result) -> list[bytes]:
    weights: list[Tensor] = [*result.generator.state_dict().values(), *result.discriminator.state_dict().values()]
    grids = [grid.read_bytes() for grid in result.grids if isinstance(grid, Path)]
    return [w.numpy().tobytes() for w in weights] + [result.history.tobytes(), str(result.distances).encode(), *grids]


def longer(recipe: Recipe = RECIPE) -> Recipe:
    return replace(recipe, epochs=4)


def test_a_longer_training_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    short = contents(run(tmp_path / "a", RECIPE))
    result = run(tmp_path / "a", longer())
    assert result.resumed and len(result.grids) == 5
    whole = run(tmp_path / "b", longer())
    assert not whole.resumed and contents(result) == contents(whole)
    # And the shorter one is made anew, not cut out of the longer.
    again = run(tmp_path / "a", RECIPE)
    assert not again.resumed and contents(again) == short


@pytest.mark.parametrize("change", [{"lr_decay": 0.1}, {"r1_gamma_end": 0.5}], ids=lambda change: next(iter(change)))
def test_a_schedule_that_ends_with_the_training_starts_over_and_says_so(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPE, **change)
    run(tmp_path / "a", recipe)
    result = run(tmp_path / "a", longer(recipe))
    assert not result.resumed and "starts from scratch, not from step 6" in caplog.text
    assert "depend on the number of epochs" in caplog.text
    assert contents(result) == contents(run(tmp_path / "b", longer(recipe)))


@pytest.mark.parametrize(
    "change", [{"params": {"lr": 0.1}}, {"data": "2"}, {"threads": 2}], ids=lambda change: next(iter(change))
)
def test_another_training_is_not_gone_on_with(tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path, replace(RECIPE, **change.pop("params", {})), **change)
    assert not run(tmp_path, longer()).resumed


class Measure:
    """A distance that depends on the weights alone, and on chance as far as anyone can tell."""

    def prepare(self, device: torch.device) -> Measure:
        return self

    def __call__(self, generator: Generator) -> float:
        return int(sum(p.double().sum() for p in generator.parameters()).abs() * 1e9) % 997 + 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize(("steps", "resumed"), [(3, True), (4, False)])
def test_a_distance_that_was_measured_only_at_the_end_is_not_kept(
    tmp_path: Path, steps: int, resumed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    quality = Quality(Measure().prepare, steps * 8 / 1000, "best")
    run(tmp_path / "a", RECIPE, quality)
    result = run(tmp_path / "a", longer(), quality)
    assert result.resumed == resumed
    said = [r.message for r in caplog.records if r.levelno == logging.WARNING and "measured a distance" in r.message]
    assert bool(said) != resumed
    assert contents(result) == contents(run(tmp_path / "b", longer(), quality))


def test_a_damaged_checkpoint_of_the_shorter_training_is_not_used(tmp_path: Path) -> None:
    run(tmp_path / "a", RECIPE)
    (checkpoint,) = (tmp_path / "a").glob("*/*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    result = run(tmp_path / "a", longer())
    assert not result.resumed and contents(result) == contents(run(tmp_path / "b", longer()))
