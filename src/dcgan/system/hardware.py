"""The hardware: selects device and precision of a training, and makes its results deterministic."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from dcgan.system.errors import UserError
from dcgan.system.processor import processor
from dcgan.system.progress import say

Precision = Literal["fp32", "bf16"]
_VISIBLE = "CUDA_VISIBLE_DEVICES"  # empty or -1, it hides all GPUs from torch
# What torch says where there is no GPU, or no CUDA. Anything else that it says is about a GPU that it cannot use.
_ABSENT = ("Found no NVIDIA driver", "No CUDA GPUs are available", "not compiled with CUDA", "might not have a CUDA")
_ON_CPU = f"set {_VISIBLE}=-1 in the environment to use the CPU (ngpu: 0 is enough for a training)"
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
        UserError: more GPUs are requested than are available, or torch cannot use the GPU: the driver is too old, or
            torch has no kernels for such a GPU.
    """
    available = _gpus() if ngpu else 0
    needed = max(ngpu if isinstance(ngpu, int) else 0, local_rank + 1 if ngpu and available else 0)
    if needed > available:
        many = "a CUDA GPU" if needed == 1 else f"{needed} CUDA GPUs"
        remedy = "start fewer processes here, or give 0" if ngpu == "auto" else "give a smaller number, auto or 0"
        raise UserError(f"ngpu: {ngpu} requires {many}, but torch sees {available or 'none'} here; {remedy}.")
    device = torch.device("cuda", local_rank) if ngpu and available else torch.device("cpu")
    if device.type == "cuda":
        _check_kernels(device)
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
        UserError: there are GPUs, but fewer than processes, or torch cannot use them.
    """
    return resolve("auto", "fp32", local_rank).device


def _gpus() -> int:
    """The number of GPUs that torch sees; 0 if there are none.

    Raises:
        UserError: there are some, but torch cannot use them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="CUDA initialization")  # its text is that of the exception below
        if torch.cuda.is_available():
            return torch.cuda.device_count()
    if os.environ.get(_VISIBLE) in ("", "-1"):
        return 0
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].removeprefix("CUDA initialization: ")
        if not any(absent in reason for absent in _ABSENT):
            reason = reason.split(". ")[0].rstrip(".")
            raise UserError(
                f"torch {torch.__version__} cannot use the GPU: {reason}; update the NVIDIA driver, or {_ON_CPU}."
            ) from None
    return 0


def _check_kernels(device: torch.device) -> None:
    """Checks that torch has kernels for this GPU: those of its own major version, or code to compile for it.

    Raises:
        UserError: it has none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of any such GPU of the machine, in several lines
        major, minor = torch.cuda.get_device_capability(device)
    kernels = torch.cuda.get_arch_list()
    known = [(name.split("_")[0], int(name.split("_")[1].rstrip("af"))) for name in kernels if "_" in name]
    usable = (
        version <= 10 * major + minor and (kind == "compute" or version // 10 == major) for kind, version in known
    )
    if known and not any(usable):
        oldest = min(version for _, version in known)
        torch_or_gpu = "another GPU" if 10 * major + minor < oldest else "a newer torch"
        raise UserError(
            f"torch {torch.__version__} has no kernels for {torch.cuda.get_device_name(device)} (CUDA capability "
            f"{major}.{minor}), only for {', '.join(kernels)}; use {torch_or_gpu}, or {_ON_CPU}."
        )


def say_what_computes(what: str, hardware: Hardware, ranks: int = 1) -> None:
    """Says in a line what `what` computes on: the device, the precision, threads or GPUs.

    Args:
        ranks: number of processes that share the work.
    """
    if hardware.device.type == "cuda":
        where = f"{ranks} GPUs" if ranks > 1 else "one GPU"
        where += f" ({torch.cuda.get_device_name(hardware.device)})"
    else:
        threads = torch.get_num_threads()
        each = f"{ranks} processes of " if ranks > 1 else ""
        where = f"the CPU ({processor()}), {each}{threads} thread{'s' if threads > 1 else ''}"
    say(f"{what}: on {where}, {hardware.precision}")


def describe(hardware: Hardware, ranks: int = 1) -> dict[str, str | int]:
    """The properties of software and hardware that the bytes of a training's results can depend on."""
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


def deciding(described: Mapping[str, str | int]) -> dict[str, str | int]:
    """Those properties of `describe` that do decide the bytes of a training's results.

    On the CPU these are all. On a GPU the processor orders the pictures and draws flips, which are integers and the
    same on all processors, and does three things more. It draws the initial weights, by code that depends on its
    instructions (and, with spectral normalisation, on its matrix products): `checkpoint.digest_of_start` is their part
    of the fingerprint. It draws the latents of BatchNorm's statistics, by the same code. And it computes the last step
    of a quick distance, eigenvalues in float64, which can differ in digits that are not written.
    """
    on_cpu_alone = ("processor", "instructions", "threads") if str(described["device"]).startswith("cuda") else ()
    return {name: value for name, value in described.items() if name not in on_cpu_alone}


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
