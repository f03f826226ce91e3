"""The hardware: selects device and precision of a training, and makes its results deterministic."""

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
    """The device and the precision that `ngpu` and `precision` resolve to on this machine."""

    device: torch.device
    precision: Precision
    graphs: bool = True  # whether a training alone on a GPU launches its steps as CUDA graphs


def resolve(ngpu: int | str, precision: str, local_rank: int = 0) -> Hardware:
    """Resolves `ngpu` and `precision` for this machine.

    Args:
        ngpu: auto (a GPU if there is one, otherwise the CPU), 0 (the CPU), or the number of GPUs on this machine.
        precision: fp32, bf16, or auto (bf16 if the hardware supports it natively, otherwise fp32).
        local_rank: rank of this process on this machine; each process uses the GPU with this number.

    Raises:
        UserError: more GPUs are requested than are available.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    needed = max(ngpu if isinstance(ngpu, int) else 0, local_rank + 1 if ngpu and available else 0)
    if needed > available:
        many = "a CUDA GPU" if needed == 1 else f"{needed} CUDA GPUs"
        remedy = "start fewer processes here, or give 0" if ngpu == "auto" else "give a smaller number, auto or 0"
        raise UserError(f"ngpu: {ngpu} requires {many}, but torch sees {available or 'none'} here; {remedy}.")
    device = torch.device("cuda", local_rank) if ngpu and available else torch.device("cpu")
    if precision in ("fp32", "bf16"):
        return Hardware(device, "bf16" if precision == "bf16" else "fp32")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return Hardware(device, "bf16" if native else "fp32")


def default_device(local_rank: int = 0) -> torch.device:
    """The GPU whose number is `local_rank`, or the CPU if this machine has no GPU.

    Raises:
        UserError: there are GPUs, but fewer than processes.
    """
    return resolve("auto", "fp32", local_rank).device


def describe(hardware: Hardware, ranks: int = 1) -> dict[str, str | int]:
    """The properties of software and hardware that the bytes of a training's results depend on."""
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
    """Sets this process up for deterministic training; call it before the first use of a GPU."""
    make_deterministic()
    keep_memory()


def make_deterministic() -> None:
    """Makes the same inputs give the same bytes; call it before the first use of a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same as torch.use_deterministic_algorithms(True), which would also import the compiler and take seconds.
    torch.set_deterministic_debug_mode("error")
    # Filling costs time, and nothing here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32
    torch.backends.cuda.matmul.allow_tf32 = False


@contextlib.contextmanager
def tf32(hardware: Hardware) -> Iterator[None]:
    """Allows TF32 in the block if the precision is bf16, for operations that stay in float32.

    The gradient penalties are such operations. TF32 has no effect on the CPU.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = hardware.precision == "bf16"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def finish(hardware: Hardware) -> None:
    """Waits until the GPU has finished all queued work, so that a clock started now does not count it."""
    if hardware.device.type == "cuda":
        torch.cuda.synchronize(hardware.device)


def peak_memory(hardware: Hardware) -> dict[str, float]:
    """The peak memory use of this process in MB (10^6 bytes); the value for the host includes mapped files."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    memory = {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    if hardware.device.type == "cuda":
        memory["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(hardware.device) / 1e6
    return memory


def keep_memory() -> None:
    """Makes glibc keep freed memory for the next step; returning it to the system costs page faults at each step."""
    with contextlib.suppress(OSError, AttributeError):  # macOS and musl have no such setting
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
