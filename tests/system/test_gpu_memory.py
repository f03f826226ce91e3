"""A GPU whose memory is full ends in a sentence, however torch tells of it."""

from __future__ import annotations

import pytest
import torch

from dcgan.system.gpu_memory import about_gpu_memory

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")
HELD = "The memory of the GPU is full: this process held 70.5 of the 80.0 GB of NVIDIA H100, and 1.2 were free; "


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1_200_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 70_500_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")


def test_it_names_what_to_lower_and_what_was_held() -> None:
    settings = {"batch_size": 4096, "ngf": 256, "ndf": 128, "image_size": 256}
    wanted = "lower batch_size: 4096, ngf: 256, ndf: 128 or image_size: 256, or end other processes on the GPU."
    assert about_gpu_memory(FULL, settings) == HELD + wanted


def test_without_settings_the_cpu_is_the_remedy() -> None:
    wanted = "set CUDA_VISIBLE_DEVICES=-1 in the environment to use the CPU, or end other processes on the GPU."
    assert about_gpu_memory(FULL) == HELD + wanted


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call ...",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_the_libraries_have_words_of_their_own(text: str) -> None:
    said = about_gpu_memory(RuntimeError(text))
    assert said and said.startswith(HELD)


def test_it_is_seen_behind_the_error_that_ends_a_graphs_capture() -> None:
    hidden = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    hidden.__context__ = FULL
    said = about_gpu_memory(hidden)
    assert said and said.startswith(HELD)


def test_a_gpu_that_answers_no_more_is_full_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    said = about_gpu_memory(FULL, {"batch_size": 8, "ngf": 4})
    assert said == "The memory of the GPU is full; lower batch_size: 8 or ngf: 4, or end other processes on the GPU."


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), MemoryError("out of memory"), OSError(28, "full")])
def test_other_errors_are_not_its_business(error: Exception) -> None:
    assert about_gpu_memory(error) is None
