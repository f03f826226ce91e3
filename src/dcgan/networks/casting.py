"""bf16 copies of a network's weights: one kernel for all, where autocast launches one for each layer and each pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class CastAtOnce(nn.Module):
    """Calls a network; inside bf16 autocast, with copies of its weights in bf16.

    BatchNorm's weights stay float32, as autocast has them. A network with spectral normalisation is called as it is,
    since it computes the weights itself.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        weights = {name: weight for name, weight in network.named_parameters() if weight.dim() > 1}
        self._weights = {} if any("parametrizations" in name for name in weights) else weights

    def copies(self) -> dict[str, Tensor]:
        """Returns the copies by name, for several calls, or nothing outside bf16 autocast.

        A gradient of a copy flows to its weight.
        """
        device = next(self.network.parameters()).device.type
        in_bf16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        if not in_bf16 or not self._weights:
            return {}
        return dict(zip(self._weights, _Cast.apply(*self._weights.values()), strict=True))

    def forward(self, inputs: Tensor, copies: dict[str, Tensor] | None = None) -> Tensor:
        """Returns network(inputs), with `copies` of the weights, or with new ones."""
        copies = self.copies() if copies is None else copies
        if not copies:
            return self.network(inputs)
        result: Tensor = functional_call(self.network, copies, (inputs,), tie_weights=False)
        return result


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
