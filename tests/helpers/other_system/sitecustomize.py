"""Python without what Linux and glibc alone have; each process that finds this folder on its PYTHONPATH imports it.

Gone are `os.sched_getaffinity` and hard links, and, but for packages that have other ways on other systems, /proc and
`libc.so.6`.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import sys
from typing import Any

_open = io.open
_PORTABLE = ("/psutil/", "/threadpoolctl.py", "/torch/distributed/elastic/")


def _has_ways_of_its_own() -> bool:
    """Whether who asks is one of those packages."""
    frame = sys._getframe(2)
    while frame.f_back:
        if any(name in frame.f_code.co_filename for name in _PORTABLE):
            return True
        frame = frame.f_back
    return False


def _open_elsewhere(file: Any, *arguments: Any, **options: Any) -> Any:
    if not isinstance(file, int) and str(file).startswith("/proc/") and not _has_ways_of_its_own():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    return _open(file, *arguments, **options)


class _OtherCDLL(ctypes.CDLL):
    def __init__(self, name: str | None, *arguments: Any, **options: Any) -> None:
        if name == "libc.so.6" and not _has_ways_of_its_own():
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        super().__init__(name, *arguments, **options)


def _no_link(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
os.link = _no_link
builtins.open = io.open = _open_elsewhere
ctypes.CDLL = _OtherCDLL  # type: ignore[misc]
