"""Features of pictures for a linear probe: those of a discriminator (Radford et al. 2015, section 5), and plain ones.

A discriminator's features are its feature maps after each LeakyReLU, each max-pooled to 4x4, side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from dcgan.exploring.probe import Probe
from dcgan.networks import Discriminator, Settings, build
from dcgan.networks.dcgan import widths
from dcgan.sampling import random_state
from dcgan.system.errors import UserError
from dcgan.system.metadata import read_metadata

Features = Callable[[Tensor], Tensor]  # from pictures, uint8 (N, H, W, C), to features, float32 (N, D)
_SIDE = 4  # of a pooled feature map
_PIXELS, _EDGES = 16, 32  # sides of the reduced pictures whose pixels and edges are features
_DIRECTIONS, _CELL = 8, 4  # of edges; side of a cell in pixels of the reduced picture
_BATCH = 128


def load_discriminator(path: Path) -> Discriminator:
    """Loads a discriminator that `networks.save` wrote, onto the CPU and in evaluation mode.

    Raises:
        UserError: the file holds no discriminator, or is damaged.
    """
    discriminator = Discriminator(Settings(**read_metadata(path)["settings"]))
    try:
        with safe_open(path, "pt") as file:
            discriminator.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:
        raise UserError(
            f"{path}: it cannot be read as a discriminator ({type(error).__name__}); train it again with `dvc repro`."
        ) from None
    return discriminator.eval()


def untrained(settings: Settings, seed: int) -> Discriminator:
    """Returns a discriminator with the random weights of the start of a training, in evaluation mode."""
    return build(settings, random_state(seed, "weights"))[1].eval()


def dimensions(settings: Settings) -> int:
    """Returns the number of features of a discriminator with these settings."""
    return sum(widths(settings.ndf, settings.image_size)) * _SIDE**2


def pooled(discriminator: Discriminator) -> Features:
    """Returns the function that computes the pooled features of a discriminator, on its device."""
    discriminator.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def features(pictures: Tensor) -> Tensor:
        maps, parts = _in_range(pictures, next(discriminator.parameters()).device), []
        for layer in discriminator.main:
            if maps.shape[-1] == _SIDE and isinstance(layer, nn.Conv2d | nn.Flatten):
                break  # the last layer, which makes the logit
            maps = layer(maps)
            if isinstance(layer, nn.LeakyReLU):
                parts.append(max_pool2d(maps, maps.shape[-1] // _SIDE).flatten(1))
        return torch.cat(parts, dim=1)

    return features


def plain(pictures: Tensor) -> Tensor:
    """Returns features that no network has learnt: small pixels, and how strong edges of 8 directions are where.

    The pixels are those of the pictures reduced to 16x16 by averaging. The edges are gradients of the brightness of
    the pictures reduced to 32x32, as in histograms of oriented gradients (Dalal and Triggs 2005), in 8x8 cells.
    """
    maps = _in_range(pictures, pictures.device)
    pixels = avg_pool2d(maps, maps.shape[-1] // _PIXELS).flatten(1)
    bright = pad(avg_pool2d(maps.mean(dim=1, keepdim=True), maps.shape[-1] // _EDGES), (1, 1, 1, 1), "replicate")
    across = bright[:, :, 1:-1, 2:] - bright[:, :, 1:-1, :-2]
    down = bright[:, :, 2:, 1:-1] - bright[:, :, :-2, 1:-1]
    angles = torch.arange(_DIRECTIONS, device=maps.device) * (2 * math.pi / _DIRECTIONS)
    turned = angles[:, None, None]
    edges = (across * turned.cos() + down * turned.sin()).relu()
    return torch.cat([pixels, avg_pool2d(edges, _CELL).sqrt().flatten(1)], dim=1)


@torch.inference_mode()
def of_pictures(features: Features, pictures: Tensor) -> Tensor:
    """Returns the features (N, D) of pictures, uint8 (N, H, W, C), on the device of `features`."""
    return torch.cat([features(batch) for batch in pictures.split(_BATCH)])


@torch.inference_mode()
def scored(features: Features, probe: Probe, pictures: Tensor) -> Tensor:
    """Returns the scores (N, A) of pictures, uint8 (N, H, W, C), by a probe of such features."""
    return torch.cat([probe.scores(features(batch)) for batch in pictures.split(_BATCH)])


def _in_range(pictures: Tensor, device: torch.device) -> Tensor:
    """Returns pictures as the networks take them: (N, C, H, W) in [-1, 1], channels last in memory."""
    return pictures.to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)
