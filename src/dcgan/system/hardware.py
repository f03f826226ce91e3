"""The machine: which device and arithmetic a training gets, and how the same bytes are had from it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from dcgan.system.errors import UserError
from dcgan.system.processor import processor

Precision = Literal["fp32", "bf16"]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True)
class Hardware:
    """What `ngpu` and `precision` became on this machine."""

    device: torch.device
    precision: Precision


def resolve(ngpu: int | str, precision: str, local_rank: int = 0) -> Hardware:
    """What `ngpu` and `precision` mean on this machine; `auto` is bf16 where the hardware has it natively.

    Args:
        ngpu: auto (a GPU where there is one), 0 (the CPU), or how many GPUs of this machine.
        local_rank: of this process among those on this machine; each takes the GPU of its number.

    Raises:
        UserError: more GPUs are asked for than there are.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    needed = max(ngpu if isinstance(ngpu, int) else 0, local_rank + 1 if ngpu and available else 0)
    if needed > available:
        many = "a CUDA GPU" if needed == 1 else f"{needed} CUDA GPUs"
        raise UserError(f"ngpu: {ngpu} asks for {many}, and torch sees {available or 'none'} here; give auto or 0.")
    device = torch.device("cuda", local_rank) if ngpu and available else torch.device("cpu")
    if precision in ("fp32", "bf16"):
        return Hardware(device, "bf16" if precision == "bf16" else "fp32")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return Hardware(device, "bf16" if native else "fp32")


def default_device(local_rank: int = 0) -> torch.device:
    """The GPU of a process's number on this machine where there are GPUs.

    Raises:
        UserError: there are more processes than GPUs.
    """
    return resolve("auto", "fp32", local_rank).device


def describe(hardware: Hardware, ranks: int = 1) -> dict[str, str | int]:
    """What a training's bytes depend on beside its settings and its data."""
    gpu = torch.cuda.get_device_name(hardware.device) if hardware.device.type == "cuda" else ""
    return {
        "torch": torch.__version__,
        "device": f"{hardware.device.type} {gpu or platform.machine()}",
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": hardware.precision,
        "threads": torch.get_num_threads(),
        "ranks": ranks,
    }


def prepare() -> None:
    """Sets this process up for a training; before the first use of a GPU."""
    make_deterministic()
    keep_memory()


def make_deterministic() -> None:
    """Same inputs, same bytes; to be called before the first use of a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # torch.use_deterministic_algorithms(True), without the import of the compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    # It costs time, and nothing here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32
    torch.backends.cuda.matmul.allow_tf32 = False


@contextlib.contextmanager
def tf32(hardware: Hardware) -> Iterator[None]:
    """Where bf16 is good enough, so is TF32 for what stays float32, as the gradient penalties; on the CPU nothing."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = hardware.precision == "bf16"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def finish(hardware: Hardware) -> None:
    """Waits until a GPU has done what it was told, so that a clock that starts now does not count that."""
    if hardware.device.type == "cuda":
        torch.cuda.synchronize(hardware.device)


def peak_memory(hardware: Hardware) -> dict[str, float]:
    """The most that this process held at a time, in MB; the host's includes mapped files."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    memory = {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    if hardware.device.type == "cuda":
        memory["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(hardware.device) / 1e6
    return memory


def keep_memory() -> None:
    """Lets glibc keep what is freed for the next step; returning it to the system costs page faults at every step."""
    with contextlib.suppress(OSError, AttributeError):  # macOS and musl: it stays as it is
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
