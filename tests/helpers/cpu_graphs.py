"""CUDA graphs without a GPU: what a capture records is replayed on the CPU, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What a capture on a GPU forbids, since the host would wait for the device.
WAITING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


class Tape(TorchDispatchMode):
    """Records operations and undoes what they change in place: a capture runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self._before: list[tuple[Tensor, Tensor]] = []
        self._random: list[tuple[torch.Generator, Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert function.name().partition(".")[0] not in WAITING, f"{function.name()} waits for the GPU"
        named = {
            argument.name: value for argument, value in zip(function._schema.arguments, args, strict=False)
        } | kwargs
        written = [a.name for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
        if function.name() == "aten::native_batch_norm":  # its schema hides this
            written += ["running_mean", "running_var"]
        changed = tree_leaves([named.get(name) for name in written])
        self._before += [(tensor, tensor.clone()) for tensor in changed if isinstance(tensor, Tensor)]
        if generator := kwargs.get("generator"):
            self._random.append((generator, generator.get_state()))
        result = function(*args, **kwargs)
        outputs = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        self.operations.append((function, args, kwargs, outputs))
        return result

    def undo(self) -> None:
        for tensor, value in reversed(self._before):
            tensor.copy_(value)
        for generator, state in reversed(self._random):
            generator.set_state(state)

    def replay(self) -> None:
        for function, args, kwargs, outputs in self.operations:
            again = [tensor for tensor in tree_leaves(function(*args, **kwargs)) if isinstance(tensor, Tensor)]
            for output, value in zip(outputs, again, strict=True):
                if output.data_ptr() != value.data_ptr():
                    output.copy_(value)


class CpuGraph:
    """Stands in for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.replays = 0

    def pool(self) -> tuple[int, int]:
        return 0, 0

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        self.tape.replay()


@contextmanager
def capture(graph: CpuGraph, pool: object = None, stream: object = None) -> Iterator[None]:
    with graph.tape:
        yield
    with torch.no_grad():
        graph.tape.undo()


class Stream:
    """Stands in for torch.cuda.Stream: the CPU has but one order."""

    def __init__(self, device: torch.device | None = None) -> None: ...

    def wait_stream(self, other: object) -> None: ...


def install(patch: pytest.MonkeyPatch) -> None:
    """Lets `torch.cuda.graph` and what belongs to it work on the CPU."""
    for name, value in {
        "CUDAGraph": CpuGraph,
        "graph": capture,
        "Stream": Stream,
        "stream": lambda stream: nullcontext(),
        "current_stream": Stream,
    }.items():
        patch.setattr(torch.cuda, name, value)
