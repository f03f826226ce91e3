"""What is found in a generator, on drawn faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dcgan.data import packing
from dcgan.exploring import attributes, captions, labelled
from dcgan.networks import Settings, build
from dcgan.sampling import random_state, refresh_batch_norm

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "GENERATED", 256)
    monkeypatch.setattr(attributes, "STRIPS", 16)
    monkeypatch.setattr(attributes, "_LEAST_GENERATED", 1)
    monkeypatch.setattr(labelled, "LEAST_TO_TEST", 4)


def explored(faces: Path, **settings: object) -> attributes.Explored:
    small = Settings(**{"nz": 8, "ngf": 4, "ndf": 4, **settings})  # type: ignore[arg-type]
    generator, discriminator = build(small, random_state(1, "weights"))
    refresh_batch_norm(generator, 1, batches=1)
    with torch.no_grad():
        list(generator.parameters())[-1].mul_(100)  # so that its pictures differ
    return attributes.explore(generator.eval(), discriminator.eval(), faces, seed=1)


def test_attributes_are_probed_or_named(faces: Path) -> None:
    found = explored(faces)
    table = pd.read_parquet(faces / "faces.parquet")
    names = set(table.columns) - {"file", "split"}
    result = found.result
    assert set(result["attributes"]) | set(result["left_out"]) == names
    assert not set(result["attributes"]) & set(result["left_out"])
    assert result["left_out"]["Attractive"] == f"0 of {(table['split'] == 'train').sum()} train faces have it; " + (
        f"0 of {(table['split'] == 'test').sum()} test faces have it"
    )
    assert "Smiling" in result["attributes"]
    for name, about in result["attributes"].items():
        assert 0 <= about["balanced_accuracy"] <= 1 and about["balanced_accuracy_majority"] == 0.5
        assert ("strip_rising" in about) == (name in found.directions.names)
    json.dumps(result, allow_nan=False)


def test_eyeglasses_are_seen(faces: Path) -> None:
    """A third of the faces have them; a probe that confused labels or faces would guess."""
    about = explored(faces).result["attributes"]["Eyeglasses"]
    assert about["balanced_accuracy"] > 0.8 and about["balanced_accuracy_judge"] > 0.8


def test_the_same_seed_gives_the_same_bytes(faces: Path) -> None:
    first, second = explored(faces), explored(faces)
    assert first.result == second.result
    assert torch.equal(first.directions.attributes, second.directions.attributes)
    assert np.array_equal(first.strips, second.strips) and np.array_equal(first.arithmetic, second.arithmetic)


def test_data_without_attributes_have_principal_directions(faces: Path, tmp_path: Path) -> None:
    shutil.copy(faces / "faces.npy", tmp_path)
    pd.read_parquet(faces / "faces.parquet")[["file", "split"]].to_parquet(tmp_path / "faces.parquet")
    found = explored(tmp_path)
    assert found.result["attributes"] == {} == found.result["left_out"]
    assert found.directions.names == [] and found.directions.attributes.shape == (0, 8)
    assert found.directions.principal.shape == (8, 8) and len(found.result["principal"]) == 8
    assert found.strips.ndim == found.arithmetic.ndim == 3
    assert explored(tmp_path, nz=1).directions.principal.shape == (1, 1)


@pytest.mark.parametrize("architecture", ["conv", "linear"])
def test_grey_faces_of_another_size_work(raw: Path, tmp_path: Path, architecture: str) -> None:
    packing.pack(raw, tmp_path / "faces", None, 32, 1, 0.0)
    found = explored(
        tmp_path / "faces",
        architecture=architecture,
        image_size=32,
        nc=1,
        latent="uniform",
        discriminator_norm="spectral",
    )
    assert found.strips.shape[2] == found.arithmetic.shape[2] == 1
    assert found.directions.names


def test_names_stand_beside_their_rows() -> None:
    white, black = np.full((2, 20, 20, 3), 255, np.uint8), np.zeros((2, 20, 20, 3), np.uint8)
    sheet = captions.rows(["a", "a long name"], [white, black], 2)
    words = sheet[:, : sheet.shape[1] - 2 * 22 - 2]
    assert (words[:22] < 128).any() and (words[24:] < 128).any()
    assert (sheet[:22, words.shape[1] :] == 255).all() and (sheet[24:44, -20:-2] == 0).all()
