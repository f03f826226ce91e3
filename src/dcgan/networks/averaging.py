"""The averaged generator (EMA): its weights, and BatchNorm statistics that fit them."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dcgan.networks.dcgan import Generator


def averaged_copy(generator: Generator) -> Generator:
    """A copy of the generator that holds running averages of its weights and takes no gradient."""
    return copy.deepcopy(generator).requires_grad_(False)


@torch.no_grad()
def update_average(average: Generator, generator: Generator, decay: float) -> None:
    """average <- decay * average + (1 - decay) * generator, weights only."""
    torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)


@torch.no_grad()
def estimate_batch_norm(generator: Generator, latents: Iterable[Tensor]) -> None:
    """Sets the BatchNorm statistics of `generator` to those over batches of latents, in float32.

    The running statistics of a training do not fit averaged weights, and lag behind any others.
    """
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    generator.train()
    for batch in latents:
        generator(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()
