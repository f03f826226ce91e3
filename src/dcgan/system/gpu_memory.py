"""The error sentence for a GPU whose memory is full. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

# As CUDA, cuBLAS and cuDNN say it, whose errors are of no class of their own.
_SAID = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_GB = 1e9


def about_gpu_memory(error: BaseException, to_lower: Mapping[str, object] | None = None) -> str | None:
    """Returns the sentence if the memory of a GPU was full, with what this process held; None for any other error.

    Args:
        to_lower: the settings that decide how much memory is needed, by name.
    """
    torch = sys.modules.get("torch")
    if torch is None or not any(_is_full(torch, each) for each in _chain(error)):
        return None
    if to_lower:
        *others, last = (f"{name}: {value}" for name, value in to_lower.items())
        remedy = f"lower {', '.join(others)} or {last}"
    else:
        remedy = "set CUDA_VISIBLE_DEVICES=-1 in the environment to use the CPU"
    return f"The memory of the GPU is full{_held(torch)}; {remedy}, or end other processes on the GPU."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it was raised from: the end of a CUDA graph's capture hides the error within."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(torch: Any, error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def _held(torch: Any) -> str:
    try:
        free, total = torch.cuda.mem_get_info()
        held, name = torch.cuda.memory_reserved(), torch.cuda.get_device_name()
    except (RuntimeError, AssertionError):  # the GPU answers no more
        return ""
    return f": this process held {held / _GB:.1f} of the {total / _GB:.1f} GB of {name}, and {free / _GB:.1f} were free"
