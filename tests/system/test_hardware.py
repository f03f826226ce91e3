"""What a training gets on a machine, and what is known of the machine, on whatever system."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from project import ROOT, other_system

from dcgan.system import hardware
from dcgan.system.errors import UserError
from dcgan.system.hardware import Hardware

CPU = Hardware(torch.device("cpu"), "fp32")


def has_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, count: int = 1) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpu(monkeypatch, None)
    with pytest.raises(UserError, match="ngpu: 1"):
        hardware.resolve(1, "auto")


def test_more_gpus_than_there_are_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpu(monkeypatch, (9, 0), count=2)
    assert hardware.resolve(2, "auto").device == torch.device("cuda", 0)
    with pytest.raises(UserError, match="ngpu: 4 requires 4 CUDA GPUs, but torch sees 2 here"):
        hardware.resolve(4, "auto")


def test_each_rank_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpu(monkeypatch, (9, 0), count=2)
    for ngpu in ("auto", 1, 2):
        assert hardware.resolve(ngpu, "auto", local_rank=1).device == torch.device("cuda", 1)
        with pytest.raises(UserError, match="3 CUDA GPUs"):
            hardware.resolve(ngpu, "auto", local_rank=2)
    assert hardware.resolve(0, "fp32", local_rank=5) == CPU


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_without_a_gpu_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch, native: bool, expected: str) -> None:
    has_gpu(monkeypatch, None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    for ngpu in (0, "auto"):
        assert hardware.resolve(ngpu, "fp32") == CPU
        assert hardware.resolve(ngpu, "bf16") == Hardware(CPU.device, "bf16")
        assert hardware.resolve(ngpu, "auto").precision == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_with_a_gpu_it_is_taken_unless_it_is_declined(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    has_gpu(monkeypatch, capability)
    for ngpu in (1, "auto"):
        machine = hardware.resolve(ngpu, "auto")
        assert machine.device.type == "cuda" and machine.precision == expected
        assert hardware.resolve(ngpu, "fp32").precision == "fp32"
    assert hardware.resolve(0, "fp32") == CPU


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_of_memory_is_in_megabytes_whatever_unit_the_system_has(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=512_000_000 // unit))
    assert hardware.peak_memory(CPU) == {"peak_memory_mb": 512.0}


TOLD = """
import json
from dcgan.system import hardware, processor
hardware.keep_memory()
print(json.dumps([processor.processor(), processor.cores()]))
"""


def told(path: str, **env: str) -> tuple[str, int]:
    """The processor's name and the number of cores, as a process with this PYTHONPATH finds them."""
    variables = os.environ | {"PYTHONPATH": path} | env
    found = subprocess.run([sys.executable, "-c", TOLD], env=variables, capture_output=True, text=True, check=True)
    processor, cores = json.loads(found.stdout)
    return processor, cores


def test_a_system_without_linux_calls_is_described_too(tmp_path: Path) -> None:
    path = other_system(str(ROOT / "src"))
    processor, cores = told(path)
    assert processor and cores == os.cpu_count()
    # As on macOS.
    sysctl = tmp_path / "sysctl"
    sysctl.write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo Apple M9\n')
    sysctl.chmod(0o755)
    assert told(path, PATH=f"{tmp_path}:{os.environ['PATH']}")[0] == "Apple M9"
