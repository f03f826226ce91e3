"""CUDA graphs: the kernels of a training step are launched by one call, instead of one by one from Python.

Networks of this size run faster on a GPU than Python launches their kernels. The kernels and their order are those of
the plain step, and so are the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

WARM_UP = 2  # plain calls of a kind before it is captured; libraries choose their kernels and workspaces in them


class Graphed:
    """Calls a function of tensors on the GPU; from its third call of a kind on, by replaying a graph.

    The function must read and write tensors that stay where they are, such as weights, and must not wait for the GPU.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device, forget: Callable[[], None]) -> None:
        """
        Args:
            function: takes the kind and tensors, and returns a tensor. The caller seeds the generators that it draws
                from before each call.
            device: the GPU.
            forget: frees the gradients, whose memory the graph then owns.
        """
        self._function, self._forget = function, forget
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._inputs: tuple[Tensor, ...] = ()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, kind: Hashable, *inputs: Tensor) -> Tensor:
        """Calls the function; `inputs` have the same shapes in all calls. The result is a copy."""
        if not self._inputs:
            self._inputs = tuple(torch.empty_like(value) for value in inputs)
        for static, value in zip(self._inputs, inputs, strict=True):
            static.copy_(value)
        calls = self._calls[kind] = self._calls.get(kind, 0) + 1
        if calls <= WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                result = self._function(kind, *self._inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            return result
        if kind not in self._graphs:
            self._graphs[kind] = self._capture(kind)
        graph, result = self._graphs[kind]
        graph.replay()
        return result.clone()

    def _capture(self, kind: Hashable) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        self._forget()
        graph = torch.cuda.CUDAGraph()
        pool = next((known.pool() for known, _ in self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool, stream=self._stream):
            result = self._function(kind, *self._inputs)
        return graph, result
