"""The faster backward passes of the halving and doubling convolutions are torch's, and elsewhere so are the layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d
from torch.nn.grad import conv2d_weight

from dcgan.networks import convolutions
from dcgan.networks.convolutions import (
    DoublingConvTranspose2d,
    HalvingConv2d,
    doubled,
    twice_differentiable,
    weight_gradient,
)

examples = settings(deadline=None, max_examples=20)
Pair = tuple[nn.Module, nn.Module]  # ours, torch's with the same weights


def halving(channels: int, out_channels: int) -> Pair:
    ours, torchs = HalvingConv2d(channels, out_channels), nn.Conv2d(channels, out_channels, 4, 2, 1, bias=False)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def doubling(channels: int, out_channels: int) -> Pair:
    ours = DoublingConvTranspose2d(channels, out_channels)
    torchs = nn.ConvTranspose2d(channels, out_channels, 4, 2, 1, bias=False)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def never(*_: Tensor) -> Tensor:
    raise AssertionError("a gradient that nobody wants")


def gradients(layer: nn.Module, maps: Tensor, bf16: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the gradients of maps and weight for a loss that weighs each value differently."""
    maps = maps.bfloat16().float().requires_grad_(True)  # so that bf16 rounds results alone
    with torch.no_grad():
        next(layer.parameters()).copy_(next(layer.parameters()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = layer(maps)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape).bfloat16().float()
    weight = next(layer.parameters())
    of_maps, of_weight = torch.autograd.grad((out.float() * weights).sum(), (maps, weight))
    return out, of_maps, of_weight


@pytest.mark.parametrize("make", [halving, doubling])
@examples
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 4, 8, 16]))
def test_bf16_gradients_are_those_of_torch(make: object, n: int, channels: int, out_channels: int, side: int) -> None:
    assert callable(make)
    torch.manual_seed(n)
    ours, torchs = make(channels, out_channels)
    maps = torch.randn(n, channels, 2 * side, 2 * side).contiguous(memory_format=torch.channels_last)
    got, exact = gradients(ours, maps, bf16=True), gradients(torchs, maps, bf16=False)
    assert got[0].dtype == torch.bfloat16 and got[1].dtype == got[2].dtype == torch.float32
    for mine, true in zip(got, exact, strict=True):
        assert mine.shape == true.shape
        assert (mine.float() - true).norm() <= 0.02 * true.norm() + 1e-6


@pytest.mark.parametrize("make", [halving, doubling])
def test_in_float32_they_are_torchs_layers_to_the_bit(make: object) -> None:
    assert callable(make)
    ours, torchs = make(3, 5)
    maps = torch.randn(2, 3, 8, 8)
    pairs = zip(gradients(ours, maps, bf16=False), gradients(torchs, maps, bf16=False), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@examples
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
def test_the_weight_gradient_is_torchs(n: int, a: int, b: int, height: int, width: int) -> None:
    small, large = torch.randn(n, a, height, width).double(), torch.randn(n, b, 2 * height, 2 * width).double()
    expected = conv2d_weight(large, (a, b, 4, 4), small, stride=2, padding=1)
    torch.testing.assert_close(weight_gradient(small, large), expected)


@examples
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
def test_doubling_is_torchs_transposed_convolution(n: int, a: int, b: int, height: int, width: int) -> None:
    maps, weight = torch.randn(n, a, height, width).double(), torch.randn(a, b, 4, 4).double()
    torch.testing.assert_close(doubled(maps, weight), conv_transpose2d(maps, weight, stride=2, padding=1))


def test_frozen_weights_take_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "weight_gradient", never)
    layer = HalvingConv2d(3, 4).requires_grad_(False)
    maps = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(maps).sum().backward()
    assert maps.grad is not None and next(layer.parameters()).grad is None


def test_a_gradient_of_a_gradient_is_refused_in_bf16_rather_than_wrong() -> None:
    layer, maps = HalvingConv2d(3, 4), torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(maps)
    (gradient,) = torch.autograd.grad(out.float().square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# The convolution that gradient penalties use on GPUs, here on the CPU in float64.


def in_float64(channels: int, side: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(2, channels, 4, side, generator=random, dtype=torch.float64, requires_grad=True)
    return maps, torch.randn(4, channels, 4, 4, generator=random, dtype=torch.float64, requires_grad=True)


# Computed as blocks and by a product; by torch's kernels.
both_ways = pytest.mark.parametrize(("channels", "side"), [(2, 6), (5, 10)])


@both_ways
def test_its_gradients_are_the_numeric_ones(channels: int, side: int) -> None:
    assert torch.autograd.gradcheck(twice_differentiable, in_float64(channels, side))


@both_ways
@pytest.mark.parametrize("frozen", [False, True])
def test_its_gradients_of_a_gradient_penalty_are_torchs(channels: int, side: int, frozen: bool) -> None:
    def gradients(convolution: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        maps, weight = in_float64(channels, side)
        weight.requires_grad_(not frozen)
        result = convolution(maps, weight).sigmoid().sum()  # not linear, so that second derivatives remain
        (gradient,) = torch.autograd.grad(result, maps, create_graph=True)
        wanted = [maps] if frozen else [maps, weight]
        return list(torch.autograd.grad(gradient.square().sum() + result, wanted))

    theirs = gradients(lambda maps, weight: torch.nn.functional.conv2d(maps, weight, stride=2, padding=1))
    torch.testing.assert_close(gradients(twice_differentiable), theirs, rtol=1e-10, atol=1e-10)


def test_a_penalty_computes_no_weight_gradient_that_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "weight_gradient", never)
    maps, weight = in_float64(3, 6)
    result = twice_differentiable(maps, weight).square().sum()
    torch.autograd.grad(result, maps, create_graph=True)
