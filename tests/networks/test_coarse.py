"""The coarse discriminator, and pixelwise normalisation in the generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dcgan import networks
from dcgan.networks import Settings
from dcgan.networks.coarse import CoarseDiscriminator, group_deviation, reduced
from dcgan.networks.pixel_norm import PixelNorm
from dcgan.sampling import random_state


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def discriminator(**changes: Any) -> networks.Discriminator:
    settings = Settings(**{"ngf": 4, "ndf": 4, "nz": 8, "discriminator_norm": "none", "coarse_share": 0.5, **changes})
    return networks.build(settings, random_state(0, "weights"))[1]


def coarse_of(found: networks.Discriminator) -> CoarseDiscriminator:
    assert found.coarse is not None
    return found.coarse


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_the_deviation_is_that_of_each_group_at_each_place(group: int) -> None:
    maps = normal(8, 3, 4, 5)
    found = group_deviation(maps, group).numpy()
    assert found.shape == (8, 1, 4, 5)
    for k in range(0, 8, group):
        expected = maps.numpy()[k : k + group].std(axis=0).mean(axis=0)
        np.testing.assert_allclose(found[k : k + group, 0], np.stack([expected] * group), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("side", [32, 64, 128, 256])
@pytest.mark.parametrize("nc", [1, 3])
def test_pictures_of_any_size_are_reduced_to_16x16_and_get_two_logits_each(side: int, nc: int) -> None:
    found = discriminator(image_size=side, nc=nc)
    coarse_of(found).group = 2
    logits = found(normal(4, nc, side, side))
    assert logits.shape == (8,) and logits.isfinite().all()
    assert reduced(normal(4, nc, side, side), side // 16).shape == (4, nc, 16, 16)


def test_a_plain_picture_stays_plain_when_it_is_reduced_and_a_ramp_a_ramp() -> None:
    torch.testing.assert_close(reduced(torch.full((1, 1, 64, 64), 0.3), 4), torch.full((1, 1, 16, 16), 0.3))
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    inner = reduced(ramp, 4)[0, 0, 0, 1:-1]
    torch.testing.assert_close(inner, torch.arange(1, 15) * 4 + 1.5)


def test_the_logits_of_a_picture_are_that_of_its_details_and_the_coarse_one() -> None:
    found, pictures = discriminator(), normal(16, 3, 64, 64)
    details, coarse = found(pictures).unflatten(0, (16, 2)).unbind(1)
    torch.testing.assert_close(details, found.main(pictures).flatten())
    torch.testing.assert_close(coarse, coarse_of(found)(pictures))


def test_the_share_is_that_of_the_gradient_alone() -> None:
    gradients, logits = [], []
    for share in (1.0, 0.25):
        pictures = normal(16, 3, 64, 64).requires_grad_(True)
        logits.append(coarse_of(discriminator(coarse_share=share))(pictures))
        gradients.append(torch.autograd.grad(logits[-1].sum(), pictures)[0])
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(0.25 * gradients[0], gradients[1])


def test_groups_are_judged_apart_and_what_varies_in_them_counts() -> None:
    found = coarse_of(discriminator())
    found.group = 4
    pictures = normal(8, 3, 64, 64)
    torch.testing.assert_close(torch.cat([found(pictures[:4]), found(pictures[4:])]), found(pictures))
    alike = torch.cat([pictures[:1].expand(4, -1, -1, -1), pictures[4:]])
    assert (found(alike)[0] - found(pictures)[0]).abs() > 1e-6  # the same picture in another group


@pytest.mark.parametrize("channels", [1, 7])
def test_pixel_norm_is_the_papers_formula_scaled_and_shifted(channels: int) -> None:
    norm, maps = PixelNorm(channels), normal(3, channels, 4, 5)
    with torch.no_grad():
        norm.weight.copy_(normal(channels, seed=1))
        norm.bias.copy_(normal(channels, seed=2))
    x = maps.double().numpy()
    divided = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-8)
    scale, shift = (value.detach().double().numpy()[:, None, None] for value in (norm.weight, norm.bias))
    np.testing.assert_allclose(norm(maps).detach(), divided * scale + shift, rtol=1e-5, atol=1e-5)


def test_with_pixel_norm_a_face_does_not_depend_on_its_batch() -> None:
    settings = Settings(ngf=4, ndf=4, nz=8, generator_norm="pixel")
    generator, _ = networks.build(settings, random_state(0, "weights"))
    latents = normal(6, 8)
    together = generator.train()(latents)
    torch.testing.assert_close(torch.cat([generator(each[None]) for each in latents]), together)
    torch.testing.assert_close(generator.eval()(latents), together)
