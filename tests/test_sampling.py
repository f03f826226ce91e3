"""Random states, latents, the ways between them, and pictures as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcgan import networks
from dcgan.networks import Generator, Settings
from dcgan.sampling import draw_latents, generate, interpolate, random_state, sheet, strip, to_levels

NORMAL, UNIFORM = Settings(nz=12, latent="normal"), Settings(nz=12, latent="uniform")
examples = settings(deadline=None, max_examples=30)
SEEDS = st.integers(0, 2**32 - 1)


def small_generator(**changes: Any) -> Generator:
    made = Settings(**{"image_size": 32, "nz": 6, "ngf": 4, "ndf": 4, **changes})
    generator, _ = networks.build(made, random_state(0, "weights"))
    networks.estimate_batch_norm(generator, [draw_latents(made, 32, random_state(0, "batch norm"))])
    with torch.no_grad():  # fresh weights give pictures that are nearly grey
        list(generator.parameters())[-1].mul_(30)
    return generator


# Random states.


@examples
@given(SEEDS, st.text(max_size=8), st.integers(0, 10**6))
def test_a_random_state_is_the_same_each_time(seed: int, purpose: str, number: int) -> None:
    state = torch.get_rng_state()
    first, second = (torch.rand(4, generator=random_state(seed, purpose, number)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_states_differ_by_seed_purpose_and_number() -> None:
    states = [random_state(s, p, n) for s in range(12) for p in ("weights", "latents", "order") for n in range(12)]
    assert len({state.initial_seed() for state in states}) == 12 * 3 * 12


def test_random_states_are_those_of_today() -> None:
    """A changed state would silently change every training: it must be a decision."""
    assert random_state(1, "weights").initial_seed() == 8721253763441857611
    assert 0 <= random_state(2**32 - 1, "grid", 10**9).initial_seed() < 2**63


# Latents.


def test_normal_latents_have_mean_zero_and_variance_one() -> None:
    latents = draw_latents(NORMAL, 5000, random_state(0, "test"))
    assert latents.shape == (5000, 12) and latents.dtype == torch.float32
    assert latents.mean().abs() < 0.02 and (latents.var() - 1).abs() < 0.03
    assert latents.abs().max() > 3


def test_uniform_latents_fill_minus_one_to_one() -> None:
    latents = draw_latents(UNIFORM, 5000, random_state(0, "test"))
    assert latents.min() >= -1 and latents.max() <= 1
    assert latents.min() < -0.999 and latents.max() > 0.999
    assert latents.mean().abs() < 0.02 and (latents.var() - 1 / 3).abs() < 0.01


# Interpolation.


def pair(kind: Settings, seed: int) -> tuple[Tensor, Tensor]:
    start, end = draw_latents(kind, 2, random_state(seed, "ends"))
    return start, end


@examples
@given(SEEDS, st.sampled_from([NORMAL, UNIFORM]))
def test_a_way_begins_and_ends_where_it_should(seed: int, kind: Settings) -> None:
    start, end = pair(kind, seed)
    torch.testing.assert_close(interpolate(kind.latent, start, end, torch.zeros(1)), start)
    torch.testing.assert_close(interpolate(kind.latent, start, end, torch.ones(1)), end)


@examples
@given(SEEDS, st.floats(0, 1, width=32))
def test_normal_latents_of_equal_length_keep_it_and_divide_the_angle(seed: int, share: float) -> None:
    start, end = (latent / latent.norm() * 3 for latent in pair(NORMAL, seed))
    between = interpolate("normal", start, end, torch.tensor([share]))
    assert between.norm().item() == pytest.approx(3, rel=1e-4)
    angle = torch.acos(torch.dot(start, end) / 9).item()
    assert torch.acos((torch.dot(start, between) / 9).clamp(-1, 1)).item() == pytest.approx(share * angle, abs=2e-3)


@examples
@given(SEEDS, st.floats(0, 1, width=32))
def test_uniform_latents_go_straight_and_stay_in_the_cube(seed: int, share: float) -> None:
    start, end = pair(UNIFORM, seed)
    between = interpolate("uniform", start, end, torch.tensor([share]))
    torch.testing.assert_close(between, start + share * (end - start))
    assert between.abs().max() <= 1


@pytest.mark.parametrize("latent", ["normal", "uniform"])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.0])
def test_parallel_ends_are_no_special_case(latent: str, factor: float) -> None:
    start = torch.tensor([0.5, -0.25, 1.0])
    between = interpolate(latent, start, factor * start, torch.tensor([0.5]))
    assert torch.isfinite(between).all()
    if factor:
        torch.testing.assert_close(between, start * (1 + factor) / 2, rtol=1e-3, atol=1e-4)


def test_opposite_ends_stay_finite() -> None:
    start = torch.tensor([3.0, 4.0])
    for share in (0.0, 0.3, 0.5, 1.0):
        between = interpolate("normal", start, -start, torch.tensor([share]))
        assert torch.isfinite(between).all() and between.norm() <= 5.01


@pytest.mark.parametrize("kind", [NORMAL, UNIFORM])
def test_a_strip_has_one_walk_a_row(kind: Settings) -> None:
    walks = strip(kind, random_state(3, "strip"), rows=4, columns=7)
    assert walks.shape == (28, 12)
    rows = walks.reshape(4, 7, 12)
    ends = draw_latents(kind, 8, random_state(3, "strip")).reshape(4, 2, 12)
    torch.testing.assert_close(rows[:, 0], ends[:, 0])
    torch.testing.assert_close(rows[:, -1], ends[:, 1])
    for row in range(4):
        expected = interpolate(kind.latent, ends[row, 0], ends[row, 1], torch.tensor([0.5]))
        torch.testing.assert_close(rows[row, 3], expected)


@pytest.mark.parametrize("kind", [NORMAL, UNIFORM])
def test_a_sheet_has_four_latents_at_its_corners(kind: Settings) -> None:
    latents = sheet(kind, random_state(3, "sheet"), side=5)
    assert latents.shape == (25, 12)
    corners = draw_latents(kind, 4, random_state(3, "sheet"))
    torch.testing.assert_close(latents[[0, 4, 20, 24]], corners)
    top = interpolate(kind.latent, corners[0], corners[1], torch.linspace(0, 1, 5).reshape(5, 1))
    torch.testing.assert_close(latents[:5], top)


def test_the_middle_of_a_uniform_sheet_is_the_mean_of_its_corners() -> None:
    latents = sheet(UNIFORM, random_state(3, "sheet"), side=5)
    torch.testing.assert_close(latents[12], latents[[0, 4, 20, 24]].mean(dim=0))


def test_strips_and_sheets_have_the_published_sizes() -> None:
    assert strip(NORMAL, random_state(0, "strip")).shape == (60, 12)
    assert sheet(NORMAL, random_state(0, "sheet")).shape == (36, 12)


# Pixels.


def test_the_range_of_tanh_becomes_the_levels() -> None:
    values = torch.tensor([-1.0, 1.0, 0.0, -2.0, 2.0, 1 / 127.5 - 1, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1])
    pixels = to_levels(values.reshape(-1, 1, 1, 1)).numpy()
    assert pixels.dtype == np.uint8 and pixels.shape == (8, 1, 1, 1)
    assert pixels.flatten().tolist() == [0, 255, 128, 0, 255, 1, 0, 1]  # 127.5 rounds to the even 128


@examples
@given(SEEDS, st.sampled_from([1, 3]), st.sampled_from([torch.float32, torch.float64]))
def test_pixels_survive_the_way_there_and_back(seed: int, nc: int, kind: torch.dtype) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 4, 6, nc), dtype=np.uint8)
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(kind) / 127.5 - 1
    result = to_levels(pictures).numpy()
    assert np.array_equal(result, pixels) and result.flags.c_contiguous


def test_levels_are_rounded_to_the_nearest() -> None:
    values = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    exact = (values.numpy() + 1) * 127.5
    levels = to_levels(values.reshape(-1, 1, 1, 1)).numpy().flatten().astype(np.float64)
    assert np.abs(levels - exact).max() <= 0.5 + 1e-4


# Generated pictures.


@pytest.mark.parametrize("nc", [1, 3])
def test_generated_pictures_are_what_the_network_says_rounded(nc: int) -> None:
    generator = small_generator(nc=nc)
    latents = draw_latents(generator.settings, 5, random_state(0, "x"))
    pixels = generate(generator, latents)
    assert pixels.dtype == np.uint8 and pixels.shape == (5, 32, 32, nc)
    with torch.no_grad():
        expected = ((generator(latents).numpy().astype(np.float64) + 1) * 127.5).transpose(0, 2, 3, 1)
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-3
    assert pixels.std() > 20  # there is something to compare


def test_a_generator_in_training_mode_is_sampled_by_its_statistics_and_they_stay() -> None:
    generator = small_generator()
    latents = draw_latents(generator.settings, 5, random_state(0, "x"))
    expected = generate(generator, latents)
    before = [buffer.clone() for buffer in generator.buffers()]
    assert np.array_equal(generate(generator.train(), latents), expected)
    assert all(torch.equal(a, b) for a, b in zip(before, generator.buffers(), strict=True))


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.sampled_from(["conv", "linear"]))
def test_a_picture_does_not_depend_on_its_neighbours(seed: int, kind: str) -> None:
    generator = small_generator(architecture=kind)
    latents = draw_latents(generator.settings, 9, random_state(seed, "x"))
    others = torch.full_like(latents, 50.0)
    others[seed % 9] = latents[seed % 9]
    assert np.array_equal(generate(generator, others)[seed % 9], generate(generator, latents)[seed % 9])


@pytest.mark.parametrize("architecture", ["conv", "linear"])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 12, 13, 400])
def test_the_batch_size_and_the_place_change_nothing_but_rounding(architecture: str, batch_size: int) -> None:
    """Sums may be taken in another order there, which tips a value that lies between two levels."""
    generator = small_generator(architecture=architecture)
    latents = draw_latents(generator.settings, 13, random_state(0, "x"))
    expected = generate(generator, latents).astype(int)
    difference = np.abs(generate(generator, latents.flip(0), batch_size)[::-1] - expected)
    assert difference.max() <= 1 and np.count_nonzero(difference) < difference.size / 1000


def test_sampling_takes_no_gradient() -> None:
    generator = small_generator()
    generate(generator, draw_latents(generator.settings, 2, random_state(0, "x")))
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert not torch.is_inference(next(generator.parameters()))
