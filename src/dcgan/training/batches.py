"""Batches of real pictures, read from the memory map or from GPU memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from dcgan.data.images import Pixels
from dcgan.sampling import random_state
from dcgan.system.ranks import ALONE, Ranks

AHEAD = 2  # batches that a thread reads in advance


def batches(
    faces: Pixels,
    batch_size: int,
    seed: int,
    first_step: int,
    steps: int,
    device: torch.device,
    ranks: Ranks = ALONE,
    mirror: bool = False,
) -> Iterator[Tensor]:
    """Yields batches of real pictures in [-1, 1] for `first_step` and the steps after it, channels_last, on `device`.

    Each epoch has its own permutation of the pictures, which is the same on all ranks. Each rank takes its part of each
    batch. The pictures at the end of an epoch that do not fill a batch are left out of that epoch.

    Args:
        mirror: whether each picture of each step is flipped left to right with probability 1/2.
    """
    resident = _to_gpu(faces, device)
    parts = _indices(len(faces), batch_size, seed, range(first_step, steps), ranks)
    stream = _read_ahead(faces, parts, device) if resident is None else _gather(resident, parts)
    for step, pixels in enumerate(stream, first_step):
        pixels = pixels.to(device, non_blocking=True)
        if mirror:
            flips = torch.randint(2, (batch_size,), generator=random_state(seed, "mirror", step)).bool()
            pixels = _flip(pixels, ranks.shard(flips))
        yield pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _indices(count: int, batch_size: int, seed: int, steps: range, ranks: Ranks) -> Iterator[Tensor]:
    """Yields the indices of this rank's pictures for each step."""
    steps_per_epoch = count // batch_size
    order, epoch_of_order = torch.empty(0), -1
    for step in steps:
        epoch, position = divmod(step, steps_per_epoch)
        if epoch != epoch_of_order:
            order, epoch_of_order = torch.randperm(count, generator=random_state(seed, "order", epoch)), epoch
        yield ranks.shard(order[position * batch_size : (position + 1) * batch_size])


def _read_ahead(faces: Pixels, parts: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yields the pixels of each part. A thread reads them while earlier steps run; for a GPU, the memory is pinned."""

    def read(part: Tensor) -> Tensor:
        pixels = torch.from_numpy(faces[part.numpy()])
        return pixels.pin_memory() if device.type == "cuda" else pixels

    with ThreadPoolExecutor(1, "batches") as thread:
        ahead: deque[Future[Tensor]] = deque()
        for part in parts:
            ahead.append(thread.submit(read, part))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _gather(resident: Tensor, parts: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yields the pixels of each part from the array in GPU memory."""
    for part in parts:
        yield resident[part.pin_memory().to(resident.device, non_blocking=True)]


def _flip(pixels: Tensor, flips: Tensor) -> Tensor:
    """Flips the pictures (N, H, W, C) for which `flips` (N,), on the CPU, is true. Never waits for the GPU."""
    flips = flips.pin_memory().to(pixels.device, non_blocking=True) if pixels.is_cuda else flips
    return torch.where(flips.reshape(-1, 1, 1, 1), pixels.flip(2), pixels)


def _to_gpu(faces: Pixels, device: torch.device) -> Tensor | None:
    """Copies the whole array to the GPU. Returns None if that would take more than half of the free memory."""
    if device.type != "cuda" or faces.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return None
    return torch.from_numpy(np.ascontiguousarray(faces[:])).to(device)


def digest(faces: Pixels) -> str:
    """Returns the SHA-256 of the training pictures and their shape, in hexadecimal."""
    sha = hashlib.sha256(repr(faces.shape).encode())
    for start in range(0, len(faces), 4096):
        sha.update(faces[start : start + 4096].tobytes())
    return sha.hexdigest()
