"""The averaged generator (EMA): its weights, and BatchNorm statistics that match them."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dcgan.networks.dcgan import Generator


def averaged_copy(generator: Generator) -> Generator:
    """Returns a copy of the generator for the running averages of its weights; it needs no gradients."""
    return copy.deepcopy(generator).requires_grad_(False)


@torch.no_grad()
def update_average(averages: list[Tensor], weights: list[Tensor], share: Tensor) -> None:
    """Sets the averages to (1 - share) * averages + share * weights. BatchNorm statistics are not averaged.

    Args:
        averages: parameters of the averaged generator.
        weights: parameters of the generator, in the same order.
        share: a scalar on the device of the weights.
    """
    if share.is_cuda:  # lerp would launch a kernel for each of the weights, and these are three in all
        changes = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(changes, share)
        torch._foreach_add_(averages, changes)
    else:
        torch._foreach_lerp_(averages, weights, [share.expand_as(weight) for weight in weights])


@torch.no_grad()
def estimate_batch_norm(generator: Generator, latents: Iterable[Tensor]) -> None:
    """Sets the BatchNorm statistics of `generator` to those over batches of latents, in float32.

    The running statistics of a training do not match averaged weights, and lag behind weights that are not averaged.
    """
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        generator.eval()
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.track_running_stats = True  # off in a training, which uses the statistics of each batch
        norm.reset_running_stats()
    generator.train()
    for number, batch in enumerate(latents, start=1):
        for norm in norms:
            norm.momentum = 1 / number  # a plain mean over the batches; with None, BatchNorm waits for the GPU
        generator(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()
