"""The R1 and R2 gradient penalties (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?")."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Returns the mean over the batch of |grad_x D(x)|^2: R1 for real pictures, R2 for generated ones.

    This is eq. 9 and 10 of Mescheder et al. 2018, without their weight of gamma / 2.

    Args:
        logits: (N,), float32.
        pictures: (N, C, H, W), float32; must require a gradient. The squares of bf16 gradients would vanish.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
