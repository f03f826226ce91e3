"""The least time of a training step on a GPU: each operation at the GPU's own speed of arithmetic or of copying.

An operation takes at least its floating-point operations at the rate of a large matrix product of its type, and at
least the bytes that it reads and writes at the rate of a large copy (Williams et al. 2009, "Roofline"). Added up over
the operations that torch runs, as they are; fusing them would lower it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LARGE = 8192  # side of the matrices
# What moves no data.
_VIEWS = {
    "alias", "as_strided", "chunk", "detach", "empty", "empty_like", "empty_strided", "expand", "new_empty", "permute",
    "reshape", "select", "slice", "split", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
    "_reshape_alias", "_unsafe_view",
}  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """What a device reaches: operations a second by type, and bytes a second that are read and written."""

    bf16: float
    tf32: float
    fp32: float
    copy: float


def rates(device: torch.device, side: int = LARGE) -> Rates:
    """Measures a device, with matrices of `side` x `side` and a copy of eight times their bytes."""

    def seconds(function: Callable[[], object], times: int = 5) -> float:
        function()
        _finish(device)
        start = time.perf_counter()
        for _ in range(times):
            function()
        _finish(device)
        return (time.perf_counter() - start) / times

    def product(dtype: torch.dtype, tf32: bool) -> float:
        before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, tf32
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        rate = 2 * side**3 / seconds(lambda: a @ b)
        torch.backends.cuda.matmul.allow_tf32 = before
        return rate

    source = torch.zeros(8 * side * side, device=device)
    target = torch.zeros_like(source)
    return Rates(
        product(torch.bfloat16, tf32=False),
        product(torch.float32, tf32=True),
        product(torch.float32, tf32=False),
        2 * source.nbytes / seconds(lambda: target.copy_(source)),
    )


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Roofline(TorchDispatchMode):
    """Adds up the least seconds, the floating-point operations and the bytes of what runs in its block."""

    rates: Rates
    seconds: float = 0.0
    flop: float = 0.0
    bytes: float = 0.0
    operations: int = field(default=0)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.name().removeprefix("aten::").partition(".")[0]
        if name not in _VIEWS:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            moved, arithmetic = sum(tensor.nbytes for tensor in tensors), _arithmetic(name, args, result)
            self.seconds += max(moved / self.rates.copy, arithmetic / self._rate(tensors))
            self.flop, self.bytes, self.operations = self.flop + arithmetic, self.bytes + moved, self.operations + 1
        return result

    def _rate(self, tensors: list[Tensor]) -> float:
        if any(tensor.dtype == torch.bfloat16 for tensor in tensors):
            return self.rates.bf16
        return self.rates.tf32 if torch.backends.cudnn.allow_tf32 else self.rates.fp32


def _arithmetic(name: str, args: Any, result: Any) -> float:
    """The floating-point operations of convolutions and matrix products; those of all others cost nothing beside
    their bytes."""
    if name in ("mm", "bmm"):
        return 2.0 * result.numel() * args[0].shape[-1]
    if name == "addmm":
        return 2.0 * result.numel() * args[1].shape[-1]
    if name == "convolution":
        maps, weight, transposed = args[0], args[1], args[6]
        return 2.0 * (maps if transposed else result).numel() * weight[0].numel()
    if name == "convolution_backward":
        gradient, maps, weight = args[:3]
        transposed, wanted = args[7], args[-1]
        return 2.0 * sum(wanted[:2]) * (maps if transposed else gradient).numel() * weight[0].numel()
    return 0.0
