"""bf16 copies of a network's weights: one kernel for all, where autocast launches one for each layer and each pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class CastAtOnce(nn.Module):
    """Calls a network; inside bf16 autocast, with copies of its weights in bf16.

    BatchNorm's weights stay float32, as autocast has them. A network with spectral normalisation is called as it is,
    since it computes the weights itself.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
        self._layers = [] if any(parametrize.is_parametrized(layer) for layer in layers) else layers
        self._weights = [layer.weight for layer in self._layers]

    def copies(self) -> tuple[Tensor, ...]:
        """Returns the copies, for several calls, or nothing outside bf16 autocast.

        A gradient of a copy flows to its weight.
        """
        if not self._weights:
            return ()
        device = self._weights[0].device.type
        in_bf16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        return _Cast.apply(*self._weights) if in_bf16 else ()

    def forward(self, inputs: Tensor, copies: tuple[Tensor, ...] | None = None) -> Tensor:
        """Returns network(inputs), with `copies` of the weights, or with new ones."""
        copies = self.copies() if copies is None else copies
        if not copies:
            return self.network(inputs)
        try:  # as torch.func.functional_call does it, which takes several times as long to find the weights
            self._put(copies)
            return self.network(inputs)
        finally:
            self._put(self._weights)

    def _put(self, weights: Sequence[Tensor]) -> None:
        for layer, weight in zip(self._layers, weights, strict=True):
            layer._parameters["weight"] = weight  # type: ignore[assignment]


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        return _cast(weights, torch.bfloat16)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return _cast(gradients, torch.float32)


def _cast(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    casts = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(casts, list(tensors))
    return tuple(casts)
