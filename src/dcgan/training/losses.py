"""The adversarial losses, as published. They map logits to scalars, without I/O, devices or state."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

from dcgan.system.choices import Loss


def discriminator_loss(loss: Loss, real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns the loss that the discriminator minimises, a scalar.

    Args:
        real: logits of real pictures, shape (N,).
        fake: logits of generated pictures, shape (N,).
        label_smoothing: subtracted from the label of real pictures (one-sided, Salimans et al. 2016, section 3.4);
            `hinge` and `relativistic` have no labels and ignore it.
    """
    real_label = 1.0 - label_smoothing
    match loss:
        case "bce" | "minimax":  # Goodfellow et al. 2014, eq. 1
            on_real = binary_cross_entropy_with_logits(real, torch.full_like(real, real_label))
            return on_real + softplus(fake).mean()
        case "hinge":  # Lim and Ye 2017; Miyato et al. 2018, eq. 16
            return relu(1 - real).mean() + relu(1 + fake).mean()
        case "lsgan":  # Mao et al. 2017, eq. 9 (a = 0, b = c = 1)
            return 0.5 * (real - real_label).square().mean() + 0.5 * fake.square().mean()
        case "relativistic":  # Jolicoeur-Martineau 2018; paired as in Huang et al. 2024, eq. 2
            return softplus(fake - real).mean()


def generator_loss(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Returns the loss that the generator minimises, a scalar.

    Args:
        real: logits of real pictures, shape (N,). Only the relativistic loss uses them; for other losses a training
            step does not run the updated discriminator on real pictures.
        fake: logits of generated pictures, shape (N,).
    """
    match loss:
        case "bce":  # maximise log D(G(z)): Goodfellow et al. 2014, section 3
            return softplus(-fake).mean()
        case "minimax":  # minimise log(1 - D(G(z))): Goodfellow et al. 2014, eq. 1
            return -softplus(fake).mean()
        case "hinge":
            return -fake.mean()
        case "lsgan":
            return 0.5 * (fake - 1).square().mean()
        case "relativistic":
            return softplus(real - fake).mean()
