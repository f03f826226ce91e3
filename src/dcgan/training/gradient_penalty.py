"""The R1 and R2 gradient penalties (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?")."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """The mean over the batch of |grad_x D(x)|^2: R1 on real pictures, R2 on generated ones.

    Mescheder et al. 2018, eq. 9 and 10, weighed there by gamma / 2. `pictures` must require a gradient,
    and be float32 with the logits, since the squares of bf16 gradients vanish.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
