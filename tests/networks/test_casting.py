"""Weights cast at once: the values and gradients of autocast, which casts them layer by layer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dcgan.networks import Settings, build
from dcgan.networks.casting import CastAtOnce

SMALL: dict[str, Any] = {"image_size": 32, "nz": 6, "ngf": 4, "ndf": 4}


def networks(**settings: Any) -> dict[str, tuple[nn.Module, Tensor]]:
    generator, discriminator = build(Settings(**SMALL, **settings), torch.Generator().manual_seed(1))
    random = torch.Generator().manual_seed(2)
    pictures = torch.randn(5, 3, 32, 32, generator=random)
    return {"generator": (generator, torch.randn(5, 6, generator=random)), "discriminator": (discriminator, pictures)}


def in_bf16(call: nn.Module, inputs: Tensor, network: nn.Module) -> tuple[Tensor, list[Tensor]]:
    with torch.autocast("cpu", torch.bfloat16):
        result = call(inputs)
    network.zero_grad()
    result.float().square().sum().backward()
    return result, [weight.grad for weight in network.parameters() if weight.grad is not None]


@pytest.mark.parametrize("norm", ["none", "batch", "spectral"])
@pytest.mark.parametrize("architecture", ["conv", "linear"])
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_values_and_gradients_are_those_of_autocast(name: str, architecture: str, norm: str) -> None:
    made = [networks(architecture=architecture, discriminator_norm=norm)[name] for _ in range(2)]
    (plain, inputs), (cast, _) = made
    expected, known = in_bf16(plain, inputs, plain)
    result, gradients = in_bf16(CastAtOnce(cast), inputs, cast)
    assert torch.equal(result, expected)
    assert len(gradients) == len(known) == len(list(cast.parameters()))
    for gradient, right in zip(gradients, known, strict=True):
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, right)


def test_the_weights_are_cast_by_one_operation_for_several_calls() -> None:
    discriminator, pictures = networks(discriminator_norm="none")["discriminator"]
    discriminator.requires_grad_(False)
    cast = CastAtOnce(discriminator)
    with torch.autocast("cpu", torch.bfloat16), Counting() as counting:
        copies = cast.copies()
        first, second = cast(pictures, copies), cast(pictures, copies)
    assert torch.equal(first, second)
    assert counting.calls["aten::_foreach_copy_"] == 1
    assert counting.calls["aten::_to_copy"] == 2  # the pictures of each call


def test_without_autocast_the_network_is_called_as_it_is() -> None:
    discriminator, pictures = networks(discriminator_norm="none")["discriminator"]
    cast = CastAtOnce(discriminator)
    assert not cast.copies()
    assert torch.equal(cast(pictures), discriminator(pictures))


def test_the_network_has_its_own_weights_again_after_a_call_that_fails() -> None:
    discriminator, pictures = networks(discriminator_norm="none")["discriminator"]
    weights = list(discriminator.parameters())
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError):
        CastAtOnce(discriminator)(pictures[:, :2])
    assert all(now is before for now, before in zip(discriminator.parameters(), weights, strict=True))


class Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[function.name()] += 1
        return function(*args, **(kwargs or {}))
