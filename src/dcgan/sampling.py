"""Latents, and the pictures that a generator makes from them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dcgan.data.images import Pixels
from dcgan.networks import Generator, Settings, estimate_batch_norm

BATCH_NORM_BATCH = 128  # latents in each batch that BatchNorm statistics are estimated from
_BLOCK = 64  # latents drawn at a time, so that a longer list starts with the latents of a shorter one


def random_state(seed: int, purpose: str, number: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a random generator that depends only on the arguments and differs for each purpose."""
    return torch.Generator(device).manual_seed(derived_seed(seed, purpose, number))


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Returns a seed that depends only on the arguments and differs for each purpose."""
    digest = hashlib.sha256(f"{purpose} {seed} {number}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def draw_latents(settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """Draws latents (count, nz) on the device of `random`: N(0, 1), or uniform on [-1, 1]."""
    draw = torch.rand if settings.latent == "uniform" else torch.randn
    latents = draw(count, settings.nz, generator=random, device=random.device)
    return latents * 2 - 1 if settings.latent == "uniform" else latents


def numbered_latents(settings: Settings, seed: int, numbers: slice, draw: int = 0) -> Tensor:
    """Returns the latents (N, nz) with the given numbers, from the endless list that belongs to (seed, draw).

    These are the latents that the evaluation uses.
    """
    first, last = numbers.start // _BLOCK, -(-numbers.stop // _BLOCK)
    purpose = f"evaluation {draw}" if draw else "evaluation"
    blocks = [draw_latents(settings, _BLOCK, random_state(seed, purpose, number)) for number in range(first, last)]
    return torch.cat(blocks)[numbers.start - first * _BLOCK : numbers.stop - first * _BLOCK]


def refresh_batch_norm(generator: Generator, seed: int, batches: int) -> None:
    """Estimates the BatchNorm statistics of `generator` on its device, from batches of latents drawn with `seed`."""
    device = next(generator.parameters()).device
    drawn = (
        draw_latents(generator.settings, BATCH_NORM_BATCH, random_state(seed, "batch norm", number))
        for number in range(batches)
    )
    estimate_batch_norm(generator, (latents.to(device) for latents in drawn))


def to_levels(pictures: Tensor) -> Tensor:
    """Converts pictures (N, C, H, W) in [-1, 1] to uint8 (N, H, W, C) on their device, rounded to the nearest level."""
    levels = pictures.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()


@torch.inference_mode()
def generate_levels(generator: Generator, latents: Tensor) -> Tensor:
    """Generates one batch from latents (N, nz), in float32; returns uint8 (N, H, W, C) on the generator's device."""
    generator.eval()
    return to_levels(generator(latents.to(next(generator.parameters()).device)))


def generated(generator: Generator, seed: int, draw: int = 0) -> Callable[[slice], Tensor]:
    """Returns a function that generates the faces with given numbers, from the endless list of (seed, draw).

    The faces are as `generate_levels` returns them. Draw 0 gives the distance and the scores of the evaluation, and the
    faces that `python -m dcgan generate` writes.
    """
    return lambda numbers: generate_levels(generator, numbered_latents(generator.settings, seed, numbers, draw))


@torch.inference_mode()
def generate(generator: Generator, latents: Tensor, batch_size: int = 128) -> Pixels:
    """Generates pictures, uint8 (N, H, W, C), from latents (N, nz). Each picture depends only on its own latent.

    The arithmetic is float32 on the generator's device, even after training in bf16. At another position in its batch,
    or in a batch of another size, a value near halfway between two levels can be rounded the other way.
    """
    parts = [generate_levels(generator, part).cpu().numpy() for part in latents.split(batch_size)]
    return np.concatenate(parts)


def interpolate(latent: str, start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Returns latents between `start` and `end` (..., nz); `share` (..., 1) is 0 at `start` and 1 at `end`.

    Normal latents, whose length hardly varies, are interpolated along the great circle (White 2016, section 2.1), and
    uniform ones along the straight line.
    """
    if latent == "uniform":
        return torch.lerp(start, end, share)
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=-1).clamp(-1, 1).unsqueeze(-1)
    angle = torch.acos(cosine).clamp(1e-4, math.pi - 1e-4)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


def strip(settings: Settings, random: torch.Generator, rows: int = 6, columns: int = 10) -> Tensor:
    """Returns the latents (rows * columns, nz) of `rows` paths, each of `columns` latents between two random ones."""
    ends = draw_latents(settings, 2 * rows, random).reshape(rows, 2, 1, settings.nz)
    share = torch.linspace(0, 1, columns).reshape(1, columns, 1)
    return interpolate(settings.latent, ends[:, 0], ends[:, 1], share).reshape(-1, settings.nz)


def sheet(settings: Settings, random: torch.Generator, side: int = 6) -> Tensor:
    """Returns the latents (side * side, nz) of a square between four random ones at its corners, row by row."""
    corners = draw_latents(settings, 4, random)
    across = torch.linspace(0, 1, side).reshape(side, 1)
    top = interpolate(settings.latent, corners[0], corners[1], across)
    bottom = interpolate(settings.latent, corners[2], corners[3], across)
    down = torch.linspace(0, 1, side).reshape(side, 1, 1)
    return interpolate(settings.latent, top, bottom, down).reshape(-1, settings.nz)
