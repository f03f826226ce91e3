"""The noise of dithering, and what it does to the distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan.metrics import feature_networks, weights
from dcgan.metrics.collecting import collect
from dcgan.metrics.dithering import LEVELS, noise
from dcgan.metrics.feature_networks import FeatureNetwork

CPU = torch.device("cpu")
FIRST = [1, 0, -3, -1, -2, -1, 3, 0]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 200), st.integers(1, 100), st.integers(1, 100))
def test_the_noise_of_a_picture_depends_on_its_number_and_size_alone(start: int, count: int, offset: int) -> None:
    stop = start + count
    whole = noise(slice(0, stop + offset), 3, 4, 5)
    part = noise(slice(start, stop), 3, 4, 5)
    assert part.shape == (count, 3, 4, 5) and torch.equal(part, whole[start:stop])


def test_the_noise_is_uniform_integers_that_differ_between_pictures() -> None:
    drawn = noise(slice(0, 256), 3, 16, 16)
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == list(range(-LEVELS, LEVELS + 1))
    assert counts.max() < 1.02 * counts.min() and drawn.std().item() == pytest.approx(2.0, abs=0.01)
    correlations = np.corrcoef(drawn[:130].flatten(1).numpy()) - np.eye(130)
    assert np.abs(correlations).max() < 0.2
    # The first values, which would be others if a version of torch drew others: then no distance could be compared.
    assert drawn[0, 0, 0, :8].tolist() == FIRST


@pytest.fixture(scope="module")
def dithered() -> FeatureNetwork:
    return feature_networks.load("efficientnet_lite0_dithered", weights.packaged(), CPU)


def test_features_do_not_depend_on_how_the_pictures_come(dithered: FeatureNetwork) -> None:
    """In batches, from the middle, or grey in one channel or in three."""
    pictures = torch.randint(0, 256, (70, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    kept = np.empty((70, 1280), np.float32)
    collect(dithered, lambda numbers: pictures[numbers], 70, "pictures", kept)
    torch.testing.assert_close(dithered.features(pictures[66:], first=66), torch.from_numpy(kept[66:]))
    assert not torch.allclose(dithered.features(pictures[66:]), torch.from_numpy(kept[66:]), rtol=1e-3)


def test_the_network_sees_the_pictures_with_their_noise(dithered: FeatureNetwork) -> None:
    plain = feature_networks.load("efficientnet_lite0", weights.packaged(), CPU)
    grey = torch.full((2, 32, 32, 1), 128, dtype=torch.uint8)
    noised = (grey + noise(slice(0, 2), 1, 32, 32).permute(0, 2, 3, 1)).to(torch.uint8)
    torch.testing.assert_close(dithered.features(grey), plain.features(noised))
    assert dithered.weights_sha256 == plain.weights_sha256 and not dithered.is_fid
