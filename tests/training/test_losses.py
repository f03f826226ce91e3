"""The adversarial losses against formulas written independently, and what their gradients do."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dcgan.system import choices
from dcgan.training import losses
from dcgan.training.gradient_penalty import gradient_penalty

LOSSES: tuple[choices.Loss, ...] = get_args(choices.Loss)
LOGITS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[st.lists(st.floats(-8, 8, width=32), min_size=n, max_size=n)] * 2)
)
examples = settings(deadline=None, max_examples=30)


def tensors(pair: tuple[list[float], list[float]]) -> tuple[Tensor, Tensor]:
    """Float64, so that the sigmoid of an independent formula does not saturate before the loss does."""
    return torch.tensor(pair[0], dtype=torch.float64), torch.tensor(pair[1], dtype=torch.float64)


@examples
@given(LOGITS, st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from(["bce", "minimax"]))
def test_the_discriminator_minimises_cross_entropy_with_only_the_real_label_smoothed(
    pair: tuple[list[float], list[float]], smoothing: float, loss: choices.Loss
) -> None:
    real, fake = tensors(pair)
    bce = nn.BCELoss()
    expected = bce(real.sigmoid(), torch.full_like(real, 1 - smoothing)) + bce(fake.sigmoid(), torch.zeros_like(fake))
    torch.testing.assert_close(losses.discriminator_loss(loss, real, fake, smoothing), expected)


@examples
@given(LOGITS)
def test_the_non_saturating_generator_minimises_cross_entropy_with_flipped_labels(
    pair: tuple[list[float], list[float]],
) -> None:
    real, fake = tensors(pair)
    expected = nn.BCELoss()(fake.sigmoid(), torch.ones_like(fake))
    torch.testing.assert_close(losses.generator_loss("bce", real, fake), expected)


@examples
@given(LOGITS)
def test_the_saturating_generator_minimises_log_one_minus_d(pair: tuple[list[float], list[float]]) -> None:
    real, fake = tensors(pair)
    torch.testing.assert_close(losses.generator_loss("minimax", real, fake), torch.log(1 - fake.sigmoid()).mean())


@examples
@given(LOGITS)
def test_the_minimax_game_has_one_value(pair: tuple[list[float], list[float]]) -> None:
    """What the discriminator gains on generated pictures, the generator loses."""
    real, fake = tensors(pair)
    of_fakes = losses.discriminator_loss("minimax", real, fake) - nn.BCELoss()(real.sigmoid(), torch.ones_like(real))
    torch.testing.assert_close(of_fakes, -losses.generator_loss("minimax", real, fake))


@examples
@given(LOGITS)
def test_hinge_counts_what_is_inside_the_margin(pair: tuple[list[float], list[float]]) -> None:
    real, fake = tensors(pair)
    expected = sum(max(0.0, 1 - r) for r in pair[0]) / len(real) + sum(max(0.0, 1 + f) for f in pair[1]) / len(fake)
    assert losses.discriminator_loss("hinge", real, fake).item() == pytest.approx(expected)
    assert losses.generator_loss("hinge", real, fake).item() == pytest.approx(-sum(pair[1]) / len(fake))


@examples
@given(LOGITS, st.sampled_from([0.0, 0.1]))
def test_least_squares_pulls_to_the_labels(pair: tuple[list[float], list[float]], smoothing: float) -> None:
    real, fake = tensors(pair)
    mse = nn.MSELoss()
    expected = (mse(real, torch.full_like(real, 1 - smoothing)) + mse(fake, torch.zeros_like(fake))) / 2
    torch.testing.assert_close(losses.discriminator_loss("lsgan", real, fake, smoothing), expected)
    torch.testing.assert_close(losses.generator_loss("lsgan", real, fake), mse(fake, torch.ones_like(fake)) / 2)


@examples
@given(LOGITS)
def test_the_relativistic_loss_pairs_each_real_picture_with_one_generated(
    pair: tuple[list[float], list[float]],
) -> None:
    real, fake = tensors(pair)
    torch.testing.assert_close(losses.discriminator_loss("relativistic", real, fake), -logsigmoid(real - fake).mean())
    torch.testing.assert_close(losses.generator_loss("relativistic", real, fake), -logsigmoid(fake - real).mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_each_player_wants_the_other_way(loss: choices.Loss) -> None:
    real, fake = torch.tensor([0.2, -0.3]), torch.tensor([0.1, -0.2], requires_grad=True)
    (of_d,) = torch.autograd.grad(losses.discriminator_loss(loss, real, fake), fake)
    (of_g,) = torch.autograd.grad(losses.generator_loss(loss, real, fake), fake)
    if loss == "lsgan":  # it pulls to 0 and to 1, so that both may pull the same way outside
        assert (of_g < 0).all()
    else:
        assert (of_d > 0).all() and (of_g < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_extreme_logits_give_finite_losses_and_gradients(loss: choices.Loss, size: float) -> None:
    real, fake = torch.tensor([size], requires_grad=True), torch.tensor([-size], requires_grad=True)
    total = losses.discriminator_loss(loss, real, fake) + losses.generator_loss(loss, real, fake)
    gradients = torch.autograd.grad(total, (real, fake))
    assert torch.isfinite(total) and all(torch.isfinite(g).all() for g in gradients)


def test_a_confident_discriminator_stops_the_saturating_generator_and_not_the_other() -> None:
    fake = torch.tensor([-20.0], requires_grad=True)
    (saturating,) = torch.autograd.grad(losses.generator_loss("minimax", fake, fake), fake)
    (other,) = torch.autograd.grad(losses.generator_loss("bce", fake, fake), fake)
    assert saturating.abs().item() < 1e-8
    assert other.item() == pytest.approx(-1.0)


def test_both_classic_generator_losses_agree_in_direction_where_the_discriminator_is_unsure() -> None:
    fake = torch.tensor([0.0], requires_grad=True)
    (saturating,) = torch.autograd.grad(losses.generator_loss("minimax", fake, fake), fake)
    (other,) = torch.autograd.grad(losses.generator_loss("bce", fake, fake), fake)
    assert saturating.item() == other.item() == -0.5


@examples
@given(st.integers(0, 2**31), st.integers(1, 4), st.sampled_from([1, 3]))
def test_the_penalty_of_a_linear_discriminator_is_its_squared_slope(seed: int, n: int, channels: int) -> None:
    random = torch.Generator().manual_seed(seed)
    slope = torch.randn(channels, 4, 4, generator=random)
    pictures = torch.randn(n, channels, 4, 4, generator=random).requires_grad_()
    penalty = gradient_penalty((pictures * slope).sum(dim=(1, 2, 3)) + 7, pictures)
    torch.testing.assert_close(penalty, slope.square().sum())


@examples
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_the_penalty_of_a_quadratic_discriminator_is_the_mean_over_the_batch(seed: int, n: int) -> None:
    pictures = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    penalty = gradient_penalty(pictures.square().sum(dim=(1, 2, 3)) / 2, pictures)
    torch.testing.assert_close(penalty, pictures.detach().square().sum() / n)


def test_the_penalty_reaches_the_weights_of_the_discriminator() -> None:
    layer = nn.Linear(3 * 4 * 4, 1)
    pictures = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradient_penalty(layer(pictures.flatten(1)).flatten(), pictures).backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, 2 * layer.weight.detach())  # of |w|^2
    assert layer.bias.grad is None or not layer.bias.grad.any()
