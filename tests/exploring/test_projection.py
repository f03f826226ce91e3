"""Projection finds a generated picture again, and changes nothing but its own latent."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from dcgan import networks, sampling
from dcgan.data.images import Pixels
from dcgan.exploring.projection import project
from dcgan.networks import Generator, Settings
from dcgan.system.errors import UserError


def drawn(**changes: Any) -> Generator:
    """A generator with random weights that are large enough for pictures of many levels."""
    settings = Settings(**{"image_size": 32, "nz": 8, "ngf": 8, "ndf": 4, **changes})
    generator, _ = networks.build(settings, sampling.random_state(0, "weights"))
    sampling.refresh_batch_norm(generator, seed=0, batches=2)
    with torch.no_grad():
        list(generator.parameters())[-1].mul_(10)
    return generator.eval()


def face(generator: Generator, number: int = 0) -> Pixels:
    latents = sampling.numbered_latents(generator.settings, 5, slice(number, number + 1))
    return sampling.generate(generator, latents)[0]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return drawn()


@pytest.mark.parametrize("changes", [{}, {"architecture": "linear", "nc": 1}, {"latent": "uniform"}], ids=str)
def test_a_generated_picture_is_found_again_with_its_latent(changes: dict[str, Any]) -> None:
    generator = drawn(**changes)
    assert face(generator).std() > 30
    for number in range(3):
        latent = sampling.numbered_latents(generator.settings, 5, slice(number, number + 1))
        found = project(generator, face(generator, number))
        assert found.error < 0.5
        torch.testing.assert_close(found.latent.flatten(1), latent, atol=0.05, rtol=0)


def test_the_picture_is_that_of_the_latent_and_the_error_that_of_the_picture(generator: Generator) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = project(generator, noise)
    assert found.latent.shape == (1, 8, 1, 1)
    np.testing.assert_array_equal(found.picture, sampling.generate(generator, found.latent.flatten(1))[0])
    assert found.error == pytest.approx(np.abs(found.picture.astype(float) - noise).mean())
    assert found.error < np.abs(face(generator).astype(float) - noise).mean()


def test_with_the_first_layer_free_another_picture_is_matched_more_closely(generator: Generator) -> None:
    features = 3 * torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        other = sampling.to_levels(generator.main[1:](features))[0].numpy()
    assert project(generator, other, first_layer=True).error < 0.7 * project(generator, other).error


def test_uniform_latents_stay_in_their_range() -> None:
    generator = drawn(latent="uniform")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert project(generator, noise).latent.abs().max() <= 1


def test_the_same_seed_gives_the_same_result_and_another_seed_other_starts(generator: Generator) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    first, again, other = (project(generator, noise, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.latent, again.latent) and first.error == again.error
    assert not torch.equal(first.latent, other.latent)


def test_the_generator_is_left_as_it_was(generator: Generator) -> None:
    mine = copy.deepcopy(generator).train()
    before = copy.deepcopy(mine.state_dict())
    project(mine, face(generator), first_layer=True)
    assert mine.training and all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in mine.parameters())


@pytest.mark.parametrize("first_layer", [False, True])
def test_the_steps_are_told_up_to_the_last(generator: Generator, first_layer: bool) -> None:
    told: list[tuple[int, int]] = []
    found = project(generator, face(generator), first_layer=first_layer, on_step=lambda *step: told.append(step))
    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1 and done[-1] == totals[0] and sorted(done) == list(done)
    assert list(done[: found.steps]) == list(range(1, found.steps + 1))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 1), np.uint8), np.zeros((32, 32, 3), np.float32)],
    ids=["size", "channels", "type"],
)
def test_a_picture_that_the_generator_cannot_draw_is_refused_in_one_sentence(
    generator: Generator, picture: Pixels
) -> None:
    with pytest.raises(UserError, match=r"give uint8 of the shape \(32, 32, 3\)\.$"):
        project(generator, picture)
