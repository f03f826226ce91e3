"""What a training gets on a machine, and what is known of the machine, on whatever system."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from project import ROOT, other_system

from dcgan.system import hardware
from dcgan.system.errors import UserError
from dcgan.system.hardware import Hardware
from dcgan.system.processor import processor

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


@pytest.mark.parametrize("ngpu", [1, "auto"])
@pytest.mark.parametrize(
    ("capability", "kernels", "remedy"),
    [
        ((6, 1), ["sm_75", "sm_80", "sm_90"], "use another GPU"),
        ((7, 0), ["sm_75", "sm_80", "sm_90"], "use another GPU"),
        ((13, 0), ["sm_75", "sm_90a"], "use a newer torch"),
        ((8, 0), ["sm_75", "sm_86", "sm_90"], "use a newer torch"),
    ],
)
def test_a_gpu_without_kernels_in_torch_is_named(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], kernels: list[str], remedy: str, ngpu: int | str
) -> None:
    has_gpu(monkeypatch, capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA Old")
    with pytest.raises(UserError) as error:
        hardware.resolve(ngpu, "auto")
    said = str(error.value)
    assert f"no kernels for NVIDIA Old (CUDA capability {capability[0]}.{capability[1]}), only for {kernels[0]}" in said
    assert remedy in said and "CUDA_VISIBLE_DEVICES=-1" in said and "\n" not in said
    with pytest.raises(UserError, match="NVIDIA Old"):
        hardware.default_device()
    assert hardware.resolve(0, "fp32") == CPU


@pytest.mark.parametrize(
    ("capability", "kernels"),
    [
        ((8, 6), ["sm_80"]),  # of the same major version and not newer
        ((12, 1), ["sm_75", "sm_120"]),
        ((9, 0), ["sm_90a"]),
        ((13, 0), ["sm_90", "compute_90"]),  # compiled for the GPU by its driver
        ((9, 0), ["gfx90a", "gfx942"]),  # of AMD's GPUs
        ((9, 0), []),
    ],
)
def test_a_gpu_with_kernels_is_taken(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], kernels: list[str]
) -> None:
    has_gpu(monkeypatch, capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
    assert hardware.resolve("auto", "fp32").device == torch.device("cuda", 0)


def no_cuda(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """As torch is where CUDA cannot be used: it warns, and says why to those that insist."""

    def is_available() -> bool:
        warnings.warn(f"CUDA initialization: {reason} (Triggered internally at CUDAFunctions.cpp:119.)", stacklevel=2)
        return False

    def init() -> None:
        raise RuntimeError(reason)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "init", init)


OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: ..."
)
UNKNOWN = "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("reason", "told"), [(OLD_DRIVER, "is too old (found version 11040); update the"), (UNKNOWN, "CUDA unknown error")]
)
def test_a_driver_that_torch_cannot_use_is_named_instead_of_taking_the_cpu(
    monkeypatch: pytest.MonkeyPatch, reason: str, told: str
) -> None:
    no_cuda(monkeypatch, reason)
    for ngpu in (1, "auto"):
        with pytest.raises(UserError) as error:
            hardware.resolve(ngpu, "auto")
        said = str(error.value)
        assert told in said and "update the NVIDIA driver, or set CUDA_VISIBLE_DEVICES=-1" in said and "\n" not in said
    with pytest.raises(UserError, match="update the NVIDIA driver"):
        hardware.default_device()
    assert hardware.resolve(0, "fp32") == CPU
    for hidden in ("-1", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert hardware.resolve("auto", "fp32") == CPU


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "reason",
    [
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and ...",
        "No CUDA GPUs are available",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
        "Torch not compiled with CUDA enabled",
    ],
)
def test_the_cpu_is_taken_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    no_cuda(monkeypatch, reason)
    assert hardware.resolve("auto", "fp32") == CPU
    with pytest.raises(UserError, match="ngpu: 1 requires a CUDA GPU, but torch sees none here"):
        hardware.resolve(1, "fp32")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_line_says_what_computes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hardware.say_what_computes("train", Hardware(CPU.device, "bf16"))
    hardware.say_what_computes("evaluate", CPU, ranks=3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA New")
    gpu = Hardware(torch.device("cuda", 0), "bf16")
    hardware.say_what_computes("train", gpu)
    hardware.say_what_computes("train", gpu, ranks=4)
    on_cpu = f"on the CPU ({processor()})"
    assert capsys.readouterr().err.splitlines() == [
        f"train: {on_cpu}, 2 threads, bf16",
        f"evaluate: {on_cpu}, 3 processes of 2 threads, fp32",
        "train: on one GPU (NVIDIA New), bf16",
        "train: on 4 GPUs (NVIDIA New), bf16",
    ]


@pytest.mark.usefixtures("two_threads")
def test_on_a_gpu_neither_processor_nor_threads_decide_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def decides(machine: Hardware, threads: int, ranks: int = 1) -> dict[str, str | int]:
        torch.set_num_threads(threads)
        return hardware.deciding(hardware.describe(machine, ranks))

    for name in ("NVIDIA New", "NVIDIA Old"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_, name=name: name)
        gpu = Hardware(torch.device("cuda", 0), "bf16")
        assert decides(gpu, 1) == decides(gpu, 2)
        expected = {"torch": torch.__version__, "device": f"cuda {name}", "precision": "bf16", "ranks": 3}
        assert decides(gpu, 1, ranks=3) == expected
    assert decides(CPU, 1) != decides(CPU, 2) and decides(CPU, 1)["processor"] == processor()


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
