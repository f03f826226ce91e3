"""The machine: which device and arithmetic a training gets, and how the same bytes are had from it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Literal

import torch

from dcgan.errors import UserError


@dataclass(frozen=True)
class Hardware:
    """What `ngpu` and `precision` became on this machine."""

    device: torch.device
    precision: Literal["fp32", "bf16"]


def resolve(ngpu: int | str, precision: str) -> Hardware:
    """What `ngpu` and `precision` mean on this machine; `auto` is bf16 where the hardware has it natively.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if ngpu == 1 and not torch.cuda.is_available():
        raise UserError("ngpu: 1 asks for a CUDA GPU, and torch sees none here; give auto or 0.")
    device = torch.device("cpu") if ngpu == 0 else default_device()
    if precision in ("fp32", "bf16"):
        return Hardware(device, "bf16" if precision == "bf16" else "fp32")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability() >= (8, 0)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return Hardware(device, "bf16" if native else "fp32")


def default_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe(hardware: Hardware) -> dict[str, str | int]:
    """What a training's bytes depend on beside its settings and its data."""
    gpu = torch.cuda.get_device_name() if hardware.device.type == "cuda" else ""
    return {
        "torch": torch.__version__,
        "device": f"{hardware.device.type} {gpu or platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": hardware.precision,
        "threads": torch.get_num_threads(),
        "ranks": 1,
    }


def make_deterministic() -> None:
    """Same inputs, same bytes; to be called before the first use of a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # It costs time, and nothing here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32
    torch.backends.cuda.matmul.allow_tf32 = False
