"""A GPU that is not there: tensors of the CPU that say that they are on it, watched for what would go wrong on one.

A tensor is where its storage is said to be. Python's functions that name a device are replaced by functions that say
where their result is, and what torch computes from tensors is where they are. Values are real: the CPU computes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self

import cpu_graphs
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
# Operations that torch.use_deterministic_algorithms(True) refuses on CUDA, as its documentation lists them.
NONDETERMINISTIC = set(
    "avg_pool3d_backward _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward adaptive_max_pool2d_backward "
    "fractional_max_pool2d_backward fractional_max_pool3d_backward max_unpool2d max_unpool3d "
    "upsample_linear1d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward upsample_trilinear3d_backward "
    "_upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward "
    "reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward grid_sampler_2d_backward "
    "grid_sampler_3d_backward nll_loss2d_forward _ctc_loss_backward put_ histc bincount median".split()
)
_OF_VALUES = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
# Functions of Python that make tensors on the device that they are told.
_FACTORIES = "empty zeros ones full arange linspace rand randn randint randperm tensor from_numpy".split()
_BESIDE = "empty_like zeros_like ones_like full_like rand_like randn_like randint_like".split()
_DRAWING = "normal_ uniform_ random_ bernoulli_ exponential_".split()


class Mistake(Exception):
    """Something that is an error on a GPU, or makes it slow, or its results differ from run to run."""


class Generator(torch.Generator):
    """A random generator of the CPU that says that it is elsewhere."""

    said: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> Self:
        self = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        self.said = _named(device)
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.said


def place(value: Tensor) -> torch.device | None:
    """Where a tensor is said to be; None is where the tensors beside it are, as for what torch makes of numbers."""
    return getattr(value.untyped_storage(), "place", None)


def _put(value: Tensor, where: torch.device | None) -> Tensor:
    value.untyped_storage().place = where  # type: ignore[attr-defined]
    return value


def _named(device: torch.device | str | int) -> torch.device:
    kind = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return GPU if kind.type == "cuda" else kind


class FakeCuda(TorchDispatchMode):
    """Watches all operations on tensors.

    What mixes devices, or has no deterministic implementation, is always a Mistake. What the host waits for is counted
    in `waits`, and is a Mistake within `no_waits`. A copy from the host is one within `as_captured`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()  # those on the GPU
        self.may_wait = self.may_copy = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled under this, and asking takes a fifth of the time

    @contextmanager
    def no_waits(self) -> Iterator[None]:
        self.may_wait, before = False, self.may_wait
        yield
        self.may_wait = before

    @contextmanager
    def as_captured(self) -> Iterator[None]:
        """As in the capture of a graph, which would copy the same memory of the host each time."""
        self.may_copy, before = False, self.may_copy
        with self.no_waits():
            yield
        self.may_copy = before

    def wait(self, what: str) -> None:
        """Counts what the host waits for."""
        self.waits[what] += 1
        if not self.may_wait:
            raise Mistake(f"{what}: the host waits for the GPU")

    def copy(self, source: Tensor, target: torch.device | None, asynchronous: bool) -> None:
        """Notes a copy between the host and the GPU."""
        what = "copy to the GPU" if target == GPU else "copy to the CPU"
        pinned = getattr(source.untyped_storage(), "pinned", False)
        if not (target == GPU and asynchronous and pinned):
            self.wait(what)
        if not self.may_copy:
            raise Mistake(f"{what}: a graph would repeat it from the same memory")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        where = {place(value) for value in _tensors(args, *kwargs.values())} - {None}
        if name == "copy_" and len(where) > 1:
            self.copy(args[1], place(args[0]), bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2])))
        elif len(where) > 1:
            raise Mistake(f"{name}: mixes devices, the CPU and the GPU")
        elif GPU in where:
            self._check(func, name, args)
        result = func(*args, **kwargs)
        for value in _tensors(result):
            if where and place(value) is None:
                _put(value, next(iter(where)))
        return result

    def _check(self, func: Any, name: str, args: Any) -> None:
        self.operations[name] += 1
        if name in NONDETERMINISTIC:
            raise Mistake(f"{name}: has no deterministic implementation on CUDA")
        if _OF_VALUES.isdisjoint(func.tags):
            return
        if name != "index":
            self.wait(name)
        elif any(value.dtype in (torch.bool, torch.uint8) for value in _tensors(args[1])):
            self.wait("index by a mask")


def _tensors(*values: Any) -> Iterator[Tensor]:
    """The tensors among `values`, and in lists and tuples of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(*value)


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """As if there were one GPU, also for `torch.cuda` and `torch.Generator`; watches this thread's operations."""
    fake = FakeCuda()
    with pytest.MonkeyPatch.context() as patch:
        _replace_factories(patch, fake)
        _replace_methods(patch, fake)
        _replace_cuda(patch, fake)
        with fake:
            yield fake


def _replace_factories(patch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    def checked(generator: torch.Generator | None, device: torch.device | None) -> None:
        if generator is not None and device is not None and generator.device != device:
            raise Mistake(f"a generator of {generator.device} draws for {device}")

    def making(make: Callable[..., Tensor], beside: bool) -> Callable[..., Tensor]:
        def function(*args: Any, **kwargs: Any) -> Tensor:
            device, pin = kwargs.pop("device", None), kwargs.pop("pin_memory", False)
            where = _named(device) if device is not None else place(args[0]) if beside else CPU
            checked(kwargs.get("generator"), where)
            if make is tensor and where == GPU:
                fake.wait("copy to the GPU")
            made = make(*args, **kwargs)
            made.untyped_storage().pinned = pin  # type: ignore[attr-defined]
            return _put(made, where)

        return function

    def drawing(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def method(self: Tensor, *args: Any, generator: torch.Generator | None = None, **kwargs: Any) -> Tensor:
            checked(generator, place(self))
            return draw(self, *args, generator=generator, **kwargs)

        return method

    tensor = torch.tensor
    for name in _FACTORIES + _BESIDE:
        patch.setattr(torch, name, making(getattr(torch, name), name in _BESIDE))
    for name in _DRAWING:
        patch.setattr(Tensor, name, drawing(getattr(Tensor, name)))
    patch.setattr(torch, "Generator", Generator)


def _replace_methods(patch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    real_to, numpy, tolist, deepcopy = Tensor.to, Tensor.numpy, Tensor.tolist, Tensor.__deepcopy__

    def to(self: Tensor, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            device, args = place(args[0]), (args[0].dtype, *args[1:])
        elif args and isinstance(args[0], str | int | torch.device):
            device, args = args[0], args[1:]
        here = place(self)
        where = here if device is None else _named(device)
        moved = (
            real_to(self, CPU, *args, **kwargs) if device is not None or not args else real_to(self, *args, **kwargs)
        )
        if here is None or where == here:
            return moved if place(moved) else _put(moved, where)
        fake.copy(self, where, bool(kwargs.get("non_blocking") or (len(args) > 1 and args[1])))
        return _put(moved.clone() if moved.data_ptr() == self.data_ptr() else moved, where)

    def pin_memory(self: Tensor) -> Tensor:
        pinned = self.clone()
        pinned.untyped_storage().pinned = True  # type: ignore[attr-defined]
        return _put(pinned, CPU)

    def as_numpy(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if place(self) == GPU:
            raise Mistake("numpy: can't convert a tensor on the GPU")
        return numpy(self, *args, **kwargs)

    def as_list(self: Tensor) -> Any:
        if place(self) == GPU:
            fake.wait("tolist")
        return tolist(self)

    def copied(self: Tensor, memo: dict[int, Any]) -> Tensor:
        return _put(deepcopy(self, memo), place(self))

    for name, value in {
        "device": property(lambda self: place(self) or CPU),
        "is_cuda": property(lambda self: place(self) == GPU),
        "is_cpu": property(lambda self: place(self) != GPU),
        "to": to,
        "cpu": lambda self, **kwargs: self.to(CPU, **kwargs),
        "cuda": lambda self, device=GPU, **kwargs: self.to(device, **kwargs),
        "pin_memory": pin_memory,
        "numpy": as_numpy,
        "tolist": as_list,
        "__deepcopy__": copied,
    }.items():
        patch.setattr(Tensor, name, value, raising=False)


def _replace_cuda(patch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    autocast, enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype
    patch.setattr(torch, "autocast", lambda kind, *args, **kwargs: autocast("cpu", *args, **kwargs))
    patch.setattr(torch, "is_autocast_enabled", lambda kind="cpu": enabled("cpu"))
    patch.setattr(torch, "get_autocast_dtype", lambda kind="cpu": dtype("cpu"))
    cpu_graphs.install(patch)
    for name, value in {
        "is_available": True,
        "device_count": 1,
        "get_device_capability": (9, 0),
        "get_device_name": "a GPU that is not there",
        "mem_get_info": (80 << 30, 80 << 30),
        "max_memory_allocated": 0,
    }.items():
        patch.setattr(torch.cuda, name, lambda *args, value=value: value)
    group = torch.optim.Optimizer._group_tensors_by_device_and_dtype

    def grouped(lists: Any, with_indices: bool = False) -> dict[Any, Any]:
        """C++ sees where tensors are, not where they are said to be."""
        found: dict[Any, Any] = dict(group(lists, with_indices))
        return {(place(values[0][0]), kind): (values, indices) for (_, kind), (values, indices) in found.items()}

    patch.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(grouped))
    stream = SimpleNamespace(is_capturing=lambda: not fake.may_copy)
    patch.setattr(torch.accelerator, "current_stream", lambda *args: stream)
    patch.setattr(torch.cuda, "synchronize", lambda *args: fake.wait("synchronize"))
