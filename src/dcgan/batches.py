"""Batches of real pictures, from the memory map or from the GPU's memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dcgan.images import Faces
from dcgan.sampling import random_state


def batches(
    faces: Faces, batch_size: int, seed: int, first_step: int, steps: int, device: torch.device
) -> Iterator[Tensor]:
    """Batches of real pictures in [-1, 1] for the steps from `first_step` on, channels_last, on `device`.

    Each epoch is a permutation of its own; what does not fill a batch at its end is left out of that epoch.
    """
    resident = _to_gpu(faces, device)
    steps_per_epoch = len(faces) // batch_size
    order, epoch_of_order = torch.empty(0), -1
    for step in range(first_step, steps):
        epoch, position = divmod(step, steps_per_epoch)
        if epoch != epoch_of_order:
            order, epoch_of_order = torch.randperm(len(faces), generator=random_state(seed, "order", epoch)), epoch
        indices = order[position * batch_size : (position + 1) * batch_size]
        if resident is not None:
            pixels = resident[indices.to(device, non_blocking=True)]
        else:
            pixels = torch.from_numpy(faces[indices.numpy()])
            pixels = pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels
        yield pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _to_gpu(faces: Faces, device: torch.device) -> Tensor | None:
    """The whole array in the GPU's memory, if it takes less than half of what is free."""
    if device.type != "cuda" or faces.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return None
    return torch.from_numpy(np.ascontiguousarray(faces[:])).to(device)


def digest(faces: Faces) -> str:
    """A hash of the pictures that are trained on."""
    sha = hashlib.sha256(repr(faces.shape).encode())
    for start in range(0, len(faces), 4096):
        sha.update(faces[start : start + 4096].tobytes())
    return sha.hexdigest()
