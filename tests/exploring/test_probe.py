"""The linear probe against other ways to compute it, and its features against the layers that they come from."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from dcgan.exploring import pooled_features, probe
from dcgan.networks import Settings, build
from dcgan.sampling import random_state
from dcgan.system.choices import Architecture, DiscriminatorNorm

COUNT, DIMENSIONS = 60, 9
RIDGE = 0.05


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(COUNT, DIMENSIONS, generator=random_state(1, "features")) * 3 + 1


@pytest.fixture
def labels(features: torch.Tensor) -> torch.Tensor:
    """A frequent attribute that depends on a feature, and a rare one."""
    frequent = torch.where(features[:, 0] > 0, 1, -1)
    rare = torch.where(features[:, 1] > features[:, 1].sort().values[-7], 1, -1)
    return torch.stack([frequent, rare], dim=1).to(torch.int8)


def ridge(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The weights of a ridge regression, by its normal equations."""
    return np.linalg.solve(features.T @ features + RIDGE * DIMENSIONS * np.eye(DIMENSIONS), features.T @ targets)


def test_it_is_a_ridge_regression_with_thresholds_of_unseen_faces(features: torch.Tensor, labels: torch.Tensor) -> None:
    x = features.double().numpy()
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    scores = probe.fit(features, labels).scores(features).numpy()
    for column in range(labels.shape[1]):
        has = labels[:, column].numpy() > 0
        targets = np.where(has, COUNT / has.sum(), -COUNT / (~has).sum())
        raw = standard @ ridge(standard, targets)
        others = (np.delete(np.arange(COUNT), i) for i in range(COUNT))
        unseen = np.array([standard[i] @ ridge(standard[o], targets[o]) for i, o in enumerate(others)])
        high, low = unseen[has].mean(), unseen[~has].mean()
        np.testing.assert_allclose(scores[:, column], (raw - (high + low) / 2) / ((high - low) / 2), atol=1e-4)


def test_a_constant_feature_changes_nothing(features: torch.Tensor, labels: torch.Tensor) -> None:
    more = torch.cat([features, torch.full((COUNT, 1), 7.0)], dim=1)
    scores = probe.fit(more, labels).scores(more)
    assert scores.isfinite().all()
    assert ((scores > 0) == (labels > 0)).double().mean() > 0.9


def test_a_face_whose_attribute_is_unknown_moves_the_scores_no_more_than_its_absence(
    features: torch.Tensor, labels: torch.Tensor
) -> None:
    """It would be counted as lacking the attribute otherwise, and pull the scores of the others down."""
    hidden = labels.clone()
    hidden[labels[:, 0] > 0, 0] = torch.tensor([1, 0] * COUNT, dtype=torch.int8)[: int((labels[:, 0] > 0).sum())]
    scores = probe.fit(features, hidden).scores(features)
    unknown = hidden[:, 0] == 0
    assert (scores[unknown, 0] > 0).double().mean() > 0.9


def test_balanced_accuracy_weighs_both_classes_alike() -> None:
    labels = torch.tensor([[1], [1], [-1], [-1], [-1], [-1], [0]])
    scores = torch.tensor([[1.0], [-1.0], [-1.0], [-1.0], [-1.0], [1.0], [1.0]])
    assert probe.balanced_accuracy(scores, labels).tolist() == [(1 / 2 + 3 / 4) / 2]
    assert probe.balanced_accuracy(-torch.ones(7, 1), labels).tolist() == [0.5]


@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("norm", get_args(DiscriminatorNorm))
@pytest.mark.parametrize(("size", "nc"), [(32, 1), (64, 3), (256, 3)])
def test_the_features_are_all_maps_pooled_to_4x4(
    architecture: Architecture, norm: DiscriminatorNorm, size: int, nc: int
) -> None:
    settings = Settings(architecture, size, nc, ndf=2, ngf=2, discriminator_norm=norm)
    discriminator = build(settings, random_state(1, "weights"))[1].eval()
    pictures = torch.randint(0, 256, (3, size, size, nc), generator=random_state(1, "x")).to(torch.uint8)
    found = pooled_features.of_pictures(pooled_features.pooled(discriminator), pictures)

    maps: list[torch.Tensor] = []
    for layer in discriminator.main:
        if isinstance(layer, torch.nn.LeakyReLU):
            layer.register_forward_hook(lambda _, __, out: maps.append(out.clone()))
    with torch.no_grad():
        discriminator(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1)
    expected = [torch.nn.functional.adaptive_max_pool2d(each, 4).flatten(1) for each in maps]
    assert found.shape == (3, pooled_features.dimensions(settings))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-6)


def test_plain_features_see_colours_and_edges() -> None:
    flat = torch.full((1, 64, 64, 3), 200, dtype=torch.uint8)
    striped = flat.clone()
    striped[:, :, 32:] = 100
    pixels = 16 * 16 * 3
    plain = pooled_features.plain
    assert not plain(flat)[0, pixels:].any() and plain(striped)[0, pixels:].any()
    torch.testing.assert_close(plain(flat)[0, :pixels], torch.full((pixels,), 200 / 127.5 - 1))
