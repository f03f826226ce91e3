"""The sentence that a stage ends with after an error, if it has one; and how a rank hands its own to the stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from dcgan.schema import Params
from dcgan.system.errors import about_disk
from dcgan.system.files import write_json
from dcgan.system.gpu_memory import about_gpu_memory
from pipeline.support.inputs import RANK_FILE, STAGE
from pipeline.support.outs import changed

# The parameters that decide how much memory a stage needs; those of the other stages are fixed.
_MEMORY = {"train": ("batch_size", "ngf", "ndf", "image_size"), "evaluate": ("ngf", "image_size")}


def sentence(error: Exception, params: Callable[[], Params]) -> str | None:
    """The sentence for an error that is no bug: a changed input, a full disk, the full memory of a GPU; or None.

    Args:
        params: returns all parameters.
    """
    if told := changed() or (about_disk(error) if isinstance(error, OSError) else None):
        return told
    if about_gpu_memory(error) is None:
        return None
    return about_gpu_memory(error, {name: getattr(params(), name) for name in _MEMORY.get(STAGE, ())})


def tell_stage(failure: Mapping[str, Any]) -> None:
    """Writes why this rank ends, for the process that started it; does nothing in a process that is no rank."""
    if RANK_FILE:
        write_json(RANK_FILE.with_name(f"error-{os.environ.get('RANK', os.getpid())}.json"), failure)


def another_has_told() -> bool:
    """Whether another rank has written why it ends: what this one meets then, such as a lost connection, follows."""
    return RANK_FILE is not None and any(RANK_FILE.parent.glob("error-*.json"))
