"""DiffAugment: shapes, random state, gradients, and what each of its steps may do to a picture."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcgan.sampling import random_state
from dcgan.training.augment import diff_augment

examples = settings(deadline=None, max_examples=25)
SIDE = 32
SHIFT, CUTOUT = 1 / 8, 1 / 2  # of the side: the paper's strengths


def pictures(seed: int, n: int = 4, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@examples
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([1, 3]), st.sampled_from([8, 32, 64]))
def test_the_shape_and_the_type_are_kept(seed: int, n: int, channels: int, side: int) -> None:
    x = pictures(seed, n, channels, side)
    for kind in (torch.float32, torch.bfloat16):
        result = diff_augment(x.to(kind), random_state(seed, "augment"))
        assert result.shape == x.shape and result.dtype == kind and torch.isfinite(result).all()


@examples
@given(st.integers(0, 1000))
def test_the_same_random_state_gives_the_same_result_and_another_one_another(seed: int) -> None:
    x = pictures(seed)
    once, again, other = (diff_augment(x, random_state(seed, "augment", number)) for number in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_neither_the_argument_nor_the_global_random_state_changes() -> None:
    x = pictures(0)
    before, state = x.clone(), torch.get_rng_state()
    diff_augment(x, random_state(0, "augment"))
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)


def test_equal_pictures_of_a_batch_are_augmented_each_in_its_own_way() -> None:
    x = pictures(0, n=1).expand(4, -1, -1, -1)
    result = diff_augment(x, random_state(0, "augment"))
    assert not any(torch.equal(result[i], result[j]) for i in range(4) for j in range(i))


@examples
@given(st.integers(0, 1000))
def test_a_picture_does_not_depend_on_the_others_of_its_batch(seed: int) -> None:
    x = pictures(seed)
    changed = x.clone()
    changed[1:] = 0
    assert torch.equal(
        diff_augment(x, random_state(seed, "augment"))[0], diff_augment(changed, random_state(seed, "augment"))[0]
    )


@examples
@given(st.integers(0, 1000))
def test_gradients_are_the_true_ones(seed: int) -> None:
    """Finite differences of the whole, in float64."""
    x = pictures(seed, n=1, channels=2, side=4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: diff_augment(p, random_state(seed, "augment")), (x,))


def test_gradients_reach_every_picture() -> None:
    x = pictures(0, n=16).requires_grad_()
    diff_augment(x, random_state(0, "augment")).square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


@examples
@given(st.integers(0, 1000))
def test_a_constant_picture_is_a_constant_or_the_grey_that_came_in(seed: int) -> None:
    """Colour moves the level by at most 0.5; translation and cutout put in 0."""
    result = diff_augment(torch.full((1, 1, SIDE, SIDE), 0.75), random_state(seed, "augment"))
    levels = result[result != 0]
    assert (levels - levels[0]).abs().max() < 1e-5
    assert 0.25 - 1e-5 <= levels[0].item() <= 1.25 + 1e-5


@examples
@given(st.integers(0, 1000))
def test_cutout_and_translation_blank_no_more_than_they_may(seed: int) -> None:
    result = diff_augment(torch.full((1, 1, SIDE, SIDE), 0.75), random_state(seed, "augment"))
    kept = (result != 0).float().mean().item()
    assert kept >= (1 - SHIFT) ** 2 - CUTOUT**2 - 1e-6


def test_cutout_blanks_a_square_and_translation_blanks_what_came_in() -> None:
    result = diff_augment(torch.full((3000, 1, SIDE, SIDE), 0.75), random_state(0, "augment"))
    blank = (result == 0).float().mean(dim=(1, 2, 3))
    assert blank.min().item() < CUTOUT**2  # partly outside
    assert blank.max().item() > 0.4  # and what a shift moved away besides


@examples
@given(st.integers(0, 1000))
def test_translation_only_moves_what_is_there(seed: int) -> None:
    """Of one bright dot on black, what is left is one dot, moved by at most SHIFT, on an even ground."""
    row = column = SIDE // 2
    x = torch.full((1, 1, SIDE, SIDE), -0.9)
    x[0, 0, row, column] = 0.9
    result = diff_augment(x, random_state(seed, "augment"))[0, 0]
    ground = result[result != 0].flatten().mode().values
    dots = ((result != 0) & ((result - ground).abs() > 1e-3)).nonzero()
    assert len(dots) <= 1  # none: the cutout hit it
    for dot in dots:
        assert (dot - torch.tensor([row, column])).abs().max() <= SIDE * SHIFT


def test_translation_goes_every_way_as_far_as_it_may() -> None:
    x = torch.full((2000, 1, 16, 16), -0.9)
    x[:, 0, 8, 8] = 0.9
    result = diff_augment(x, random_state(0, "augment"))[:, 0]
    ground = result.flatten(1).min(dim=1).values  # the dot is brighter than its ground
    dots = ((result - ground[:, None, None] > 0.2) & (result.abs() > 1e-6)).nonzero()[:, 1:] - 8
    most = int(16 * SHIFT)
    assert dots.min(dim=0).values.tolist() == [-most] * 2
    assert dots.max(dim=0).values.tolist() == [most] * 2


def test_saturation_does_nothing_to_grey_pictures_and_changes_coloured_ones() -> None:
    grey = pictures(0, n=8, channels=1).expand(-1, 3, -1, -1)
    result = diff_augment(grey, random_state(0, "augment"))
    assert (result - result.mean(dim=1, keepdim=True)).abs().max() < 1e-5
    coloured = diff_augment(pictures(0, n=8), random_state(0, "augment"))
    assert (coloured - coloured.mean(dim=1, keepdim=True)).abs().max() > 0.1
