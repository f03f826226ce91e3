"""About the least time that a step of the bce loop can take with the layers as they are, on this machine.

For each layer its best measured time at its own shape and type, forward and backward; the operations that only
move memory (BatchNorm, activations, casts, Adam) at the speed of a copy. Added up, as if nothing else cost anything.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dcgan.networks import Settings, build
from dcgan.networks.convolutions import doubled, weight_gradient
from dcgan.sampling import random_state

REPEATS = 5


def seconds(function: Callable[[], object]) -> float:
    """The median time of a call."""
    function()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def copy_speed() -> float:
    """Bytes a second that are read and written, by a copy that fits no cache."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source))


def convolution(layer: nn.Conv2d | nn.ConvTranspose2d, maps: Tensor) -> tuple[float, float, float, float]:
    """The best seconds of a layer: forward; gradient of the maps; of the weight; both in one call."""
    transposed = isinstance(layer, nn.ConvTranspose2d)
    geometry = [[int(number) for number in pair] for pair in (layer.stride, layer.padding, layer.dilation)]
    best = [float("inf")] * 4
    for layout in (torch.channels_last, torch.contiguous_format):
        x, weight = maps.contiguous(memory_format=layout), layer.weight.detach().to(maps.dtype)
        weight = weight.contiguous(memory_format=layout)

        forward = partial(torch.ops.aten.convolution, x, weight, None, *geometry, transposed, [0, 0], 1)
        gradient = torch.randn_like(forward())
        backward = partial(
            torch.ops.aten.convolution_backward, gradient, x, weight, None, *geometry, transposed, [0, 0], 1
        )
        masks = [True, False, False], [False, True, False], [True, True, False]
        found = [seconds(forward), *(seconds(partial(backward, mask)) for mask in masks)]
        best = [min(pair) for pair in zip(best, found, strict=True)]
        if layer.stride == (2, 2):
            small, large = (x, gradient) if transposed else (gradient, x)
            best[2] = min(best[2], seconds(partial(weight_gradient, small, large)))
            # The transposed one is the layer itself, or its gradient of the maps.
            at = 0 if transposed else 1
            best[at] = min(best[at], seconds(partial(doubled, small, weight)))
    return best[0], best[1], best[2], min(best[3], best[1] + best[2])


def floor(settings: Settings, batch_size: int, dtype: torch.dtype) -> float:
    """Seconds of a step: the generator's passes once, the discriminator's on real, generated and again generated.

    Args:
        settings: of `conv` networks with BatchNorm in both.
    """
    generator, discriminator = build(settings, random_state(1, "weights"))
    total, moved = 0.0, 0.0  # seconds, bytes
    parameters = sum(p.numel() for p in itertools.chain(generator.parameters(), discriminator.parameters()))
    moved += parameters * 4 * 7  # Adam reads weight, gradient and two moments, and writes all but the gradient
    element = torch.empty((), dtype=dtype).element_size()
    if dtype != torch.float32:
        moved += parameters * 2 * (4 + element)  # weights cast on their way in, gradients on their way out

    maps = torch.randn(batch_size, settings.nz, 1, 1).to(dtype)
    for network, forwards, whole, frozen in ((generator, 1, 1, 0), (discriminator, 3, 2, 1)):
        first = True
        for layer in network.main:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                forward, of_maps, of_weight, both = convolution(layer, maps)
                total += forwards * forward + whole * (of_weight if first else both) + frozen * of_maps
                with torch.no_grad():
                    maps = layer.to(dtype)(maps)
                first = False
                continue
            size = maps.numel() * element
            norm = isinstance(layer, nn.BatchNorm2d)
            moved += forwards * size * (3 if norm else 2)  # read for the statistics; read, and write
            moved += (whole + frozen) * size * (5 if norm else 3)  # both maps read (twice), one written
    return total + moved / copy_speed()
