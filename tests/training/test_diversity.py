"""Diversity falls when pictures become alike, and does not mistake noise for variety."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan.data import images
from dcgan.training import diversity

Pixels = npt.NDArray[np.uint8]


def test_pictures_of_one_level_each_have_the_deviation_of_their_levels() -> None:
    levels = np.array([0, 10, 50, 200, 255], np.uint8)
    pictures = np.broadcast_to(levels.reshape(5, 1, 1, 1), (5, 64, 64, 3)).copy()
    assert diversity.diversity(pictures) == pytest.approx(np.std(levels.astype(float), ddof=1))


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 30), st.sampled_from([32, 64]), st.sampled_from([1, 3]), st.integers(0, 99))
def test_it_is_the_root_of_half_the_mean_squared_distance(n: int, side: int, nc: int, seed: int) -> None:
    pictures = np.random.default_rng(seed).integers(0, 256, (n, side, side, nc)).astype(np.uint8)
    step = side // diversity.SIDE
    small = pictures.reshape(n, diversity.SIDE, step, diversity.SIDE, step, nc).mean(axis=(2, 4)).reshape(n, -1)
    distances = [((a - b) ** 2).mean() for i, a in enumerate(small) for b in small[i + 1 :]]
    assert diversity.diversity(pictures) == pytest.approx(np.sqrt(np.mean(distances) / 2), abs=1e-9)


def test_alike_pictures_have_none_and_noise_on_them_adds_little(faces: Path) -> None:
    real = images.open_faces(faces, "train")
    alike = np.repeat(real[:1], 40, axis=0)
    assert diversity.diversity(alike) == 0
    noisy = alike + np.random.default_rng(0).normal(0, 20, alike.shape)
    of_data = diversity.of_data(real, 1)
    assert diversity.diversity(noisy.clip(0, 255).astype(np.uint8)) < 0.1 * of_data


def test_one_kind_of_face_less_is_less_diverse(faces: Path) -> None:
    real = images.open_faces(faces, "train")
    of_data = diversity.of_data(real, 1)
    assert diversity.of_data(real, 2) == pytest.approx(of_data, rel=0.2)
    few = np.repeat(real[:2], 20, axis=0)
    assert diversity.diversity(few) < of_data
