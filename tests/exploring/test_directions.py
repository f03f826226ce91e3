"""Directions in latent space: found where they were put, and moves that stay among the latents."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from dcgan.exploring import arithmetic, direction_file, directions
from dcgan.exploring.principal import principal_directions
from dcgan.networks import Settings, build
from dcgan.sampling import draw_latents, random_state
from dcgan.system.choices import Architecture, GeneratorNorm, Latent

LATENTS = get_args(Latent)


def drawn(settings: Settings, count: int = 4000) -> torch.Tensor:
    return draw_latents(settings, count, random_state(1, "latents"))


def unit(settings: Settings, number: int) -> torch.Tensor:
    return torch.eye(settings.nz)[number]


@pytest.mark.parametrize("latent", LATENTS)
def test_the_means_find_the_direction_that_decides(latent: Latent) -> None:
    settings = Settings(nz=10, latent=latent)
    latents = drawn(settings)
    present = torch.stack([latents[:, 3] > 0, latents[:, 5] > 0.5 * directions.deviation(settings)], dim=1)
    found = directions.between_means(latents, present)
    assert found[0] @ unit(settings, 3) > 0.99 and found[1] @ unit(settings, 5) > 0.99
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("latent", LATENTS)
def test_a_move_by_nothing_changes_no_bit(latent: Latent) -> None:
    settings = Settings(nz=10, latent=latent)
    latents = drawn(settings, 16)
    assert torch.equal(directions.moved(settings, latents, torch.eye(10)[:4], torch.zeros(4)), latents)
    assert torch.equal(directions.moved(settings, latents, torch.empty(0, 10), torch.zeros(0)), latents)


@pytest.mark.parametrize("latent", LATENTS)
def test_a_moved_latent_could_have_been_drawn(latent: Latent) -> None:
    settings = Settings(nz=10, latent=latent)
    latents = drawn(settings, 16)
    there = directions.moved(settings, latents, torch.eye(10)[:2], torch.tensor([3.0, -3.0]))
    assert (there[:, 0] > latents[:, 0]).all() and (there[:, 1] < latents[:, 1]).all()
    if latent == "normal":
        torch.testing.assert_close(there.norm(dim=1), latents.norm(dim=1))
    else:
        assert there.abs().max() <= 1


@pytest.mark.parametrize("latent", LATENTS)
def test_a_placed_latent_lies_there_and_is_elsewhere_the_same(latent: Latent) -> None:
    settings = Settings(nz=10, latent=latent)
    latents = drawn(settings, 16)
    there = directions.placed(settings, latents, unit(settings, 2), -1.5)
    torch.testing.assert_close(there[:, 2], torch.full((16,), -1.5 * directions.deviation(settings)))
    others = [n for n in range(10) if n != 2]
    torch.testing.assert_close(there[:, others], latents[:, others])


@pytest.mark.parametrize("latent", LATENTS)
def test_a_sum_has_both_attributes_and_the_length_of_a_latent(latent: Latent) -> None:
    settings = Settings(nz=50, latent=latent)
    latents = drawn(settings)
    found = arithmetic.add(settings, latents, latents > 0, [7, 9, 11], random_state(1, "noise"))
    assert found is not None and (found.first, found.second) == (7, 9)
    assert found.terms[0, 7] > 0 > found.terms[0, 9] and (found.terms[1, [7, 9]] < 0).all()
    assert (found.results[:, [7, 9]] > 0).all()
    if latent == "normal":
        torch.testing.assert_close(found.results[4].norm(), torch.tensor(50.0).sqrt())
    assert len({tuple(result.tolist()) for result in found.results}) == 9


def test_no_sum_is_made_of_attributes_that_always_come_together() -> None:
    settings = Settings(nz=4)
    latents = drawn(settings, 100)
    same = latents[:, :1] > 0
    assert arithmetic.add(settings, latents, torch.cat([same, same], dim=1), [0, 1], random_state(1, "noise")) is None


@pytest.mark.parametrize("norm", get_args(GeneratorNorm))
@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_principal_directions_are_those_of_the_first_layers_features(
    architecture: Architecture, norm: GeneratorNorm
) -> None:
    settings = Settings(architecture, 32, nz=6, ngf=4, generator_norm=norm)
    generator = build(settings, random_state(1, "weights"))[0].eval()
    if architecture == "conv":
        second = generator.main[1]
        if isinstance(second, torch.nn.BatchNorm2d) and second.running_var is not None:
            second.running_var.uniform_(0.5, 2, generator=random_state(1, "variances"))
        first = torch.nn.Sequential(*generator.main[: 2 if norm == "batch" else 1])
        latents = drawn(settings, 50_000)[:, :, None, None]
    else:
        first, latents = torch.nn.Sequential(generator.project), drawn(settings, 50_000)
    with torch.no_grad():
        features = first(latents).flatten(1).double()
    features -= features.mean(dim=0)
    variances = torch.linalg.svdvals(features).square()
    vectors, shares = principal_directions(generator, 4)
    torch.testing.assert_close(shares, variances[:4] / variances.sum(), rtol=0.05, atol=0)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(4), atol=1e-5, rtol=0)
    along = [(features.T @ (latents.flatten(1) @ v).double()).norm() for v in vectors]
    assert along == sorted(along, reverse=True)


def test_the_file_belongs_to_one_generator(tmp_path: Path) -> None:
    path, found = (
        tmp_path / "directions.safetensors",
        direction_file.Directions(["Smiling"], torch.eye(3)[:1], torch.eye(3)),
    )
    direction_file.save(path, found, "a" * 64)
    back = direction_file.load(path, "a" * 64)
    assert back is not None and back.names == ["Smiling"]
    assert torch.equal(back.attributes, found.attributes) and torch.equal(back.principal, found.principal)
    assert direction_file.load(path, "b" * 64) is None
    path.write_bytes(path.read_bytes()[:50])
    assert direction_file.load(path, "a" * 64) is None
    assert direction_file.load(tmp_path / "none", "a" * 64) is None
