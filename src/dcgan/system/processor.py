"""The processor of this machine: its name and its cores. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from pathlib import Path


def cores() -> int:
    """The number of logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The model name of the processor, or its architecture if the name is unknown."""
    with contextlib.suppress(OSError):  # Linux; on ARM the file has no model name
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()
