"""Projection: the latent whose picture is nearest to a given one.

The generator has about a hundred inputs, so that the whole Jacobian is affordable: pictures are matched by
Levenberg-Marquardt (damped least squares), which finds a generated picture again to the rounding of its levels, where
gradient descent (Bojanowski et al. 2018, Abdal et al. 2019) stays some levels away. A picture that the generator cannot
draw is matched better with the output of the first layer free: thousands of numbers, which no latent need have.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn.functional import avg_pool2d, l1_loss

from dcgan.data.images import Pixels
from dcgan.networks import Generator
from dcgan.sampling import draw_latents, random_state, to_levels
from dcgan.system.errors import UserError

CANDIDATES, STARTS = 512, 4  # random latents, and how many of the nearest are tried at most
FIRST_STEPS, STEPS = 5, 25  # of each start, and at most of the best one after that
NEAR = 6.0  # levels; a start that is as near after its first steps makes the others needless
FIRST_LAYER_STEPS = 100
_BLOCK = 32  # candidates, and columns of the Jacobian, that are computed at a time
_COARSE = 8  # pixels a side of the picture in which candidates are compared
_ENOUGH = 1e-3  # share of the squared error; a step that removes less is the last
_LEVELS = 127.5  # of 0..255, in a unit of the generator's range [-1, 1]


@dataclass(frozen=True)
class Projection:
    """The nearest picture that was found.

    Args:
        picture: the picture (H, W, C), uint8.
        latent: its latent (1, nz, 1, 1), on the CPU. If the first layer was free, that of the nearest picture that has
            a latent.
        error: mean absolute difference from the given picture, in levels of 0..255.
        steps: number of steps taken.
    """

    picture: Pixels
    latent: Tensor
    error: float
    steps: int


def project(
    generator: Generator,
    picture: Pixels,
    *,
    first_layer: bool = False,
    seed: int = 1,
    on_step: Callable[[int, int], None] | None = None,
) -> Projection:
    """Finds the latent whose picture is nearest to `picture`; the same arguments give the same result.

    Args:
        generator: it is not changed.
        picture: uint8 (image_size, image_size, nc).
        first_layer: whether the output of the first layer is then freed, which gives a nearer picture without a latent.
        seed: seed of the random latents to start from.
        on_step: called with the number of steps done and the number of all, which are equal at the end.

    Raises:
        UserError: the picture has another size, number of channels or type than the generator's.
    """
    s = generator.settings
    if picture.dtype != np.uint8 or picture.shape != (s.image_size, s.image_size, s.nc):
        raise UserError(
            f"picture: {picture.dtype} of the shape {picture.shape} is not allowed; give uint8 of the shape "
            f"({s.image_size}, {s.image_size}, {s.nc})."
        )
    steps = _Steps(STARTS * FIRST_STEPS + STEPS + first_layer * FIRST_LAYER_STEPS, on_step)
    generator = copy.deepcopy(generator).eval().requires_grad_(False)
    device = next(generator.parameters()).device
    target = torch.tensor(picture, device=device).permute(2, 0, 1)[None] / _LEVELS - 1
    with torch.no_grad():
        searches: list[_Search] = []
        for start in _starts(generator, target, seed):
            searches.append(_Search(generator, target, start))
            searches[-1].run(FIRST_STEPS, steps)
            if searches[-1].error < NEAR:
                break
        best = min(searches, key=lambda search: search.loss)
        best.run(STEPS, steps)
        found = generator(best.latent)
    pictures = [found, _free_first_layer(generator, target, best.latent, steps)] if first_layer else [found]
    levels = [to_levels(each)[0].cpu().numpy() for each in pictures]
    errors = [float(np.abs(each.astype(np.int16) - picture).mean()) for each in levels]
    nearest = int(np.argmin(errors))
    latent = best.latent.cpu().reshape(1, -1, 1, 1)
    return Projection(levels[nearest], latent, errors[nearest], steps.finish())


class _Steps:
    """Counts the steps, and tells them."""

    def __init__(self, total: int, on_step: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.on_step = 0, total, on_step

    def step(self) -> None:
        self.done += 1
        if self.on_step:
            self.on_step(self.done, self.total)

    def finish(self) -> int:
        """Returns the number of steps taken, and tells that there are no more."""
        if self.on_step and self.done < self.total:
            self.on_step(self.total, self.total)
        return self.done


def _starts(generator: Generator, target: Tensor, seed: int) -> list[Tensor]:
    """Returns those random latents (1, nz) whose coarse pictures are nearest to the target's."""
    side = target.shape[-1] // _COARSE
    latents = draw_latents(generator.settings, CANDIDATES, random_state(seed, "projection")).to(target.device)
    coarse = torch.cat([avg_pool2d(generator(block), side) for block in latents.split(_BLOCK)])
    distances = (coarse - avg_pool2d(target, side)).abs().mean((1, 2, 3))
    return list(latents[distances.argsort(stable=True)[:STARTS]].split(1))


class _Search:
    """Levenberg-Marquardt from one latent (1, nz); uniform latents stay in [-1, 1]."""

    def __init__(self, generator: Generator, target: Tensor, latent: Tensor) -> None:
        self.generator, self.target = generator, target
        self.bound = 1.0 if generator.settings.latent == "uniform" else torch.inf
        self.damping, self.ended = 1e-2, False
        self._take(latent, self._residuals(latent))

    def run(self, count: int, steps: _Steps) -> None:
        """Takes at most `count` steps."""
        for _ in range(count):
            if not self.ended:
                self.ended = not self._step()
                steps.step()

    @property
    def error(self) -> float:
        """The mean absolute difference, in levels."""
        return self.residuals.abs().mean().item() * _LEVELS

    def _residuals(self, latent: Tensor) -> Tensor:
        return (self.generator(latent) - self.target).flatten()

    def _take(self, latent: Tensor, residuals: Tensor) -> None:
        self.latent, self.residuals, self.loss = latent, residuals, residuals.square().sum().item()

    def _step(self) -> bool:
        """Takes a step that makes the squared error smaller; returns whether there was one worth taking."""
        jacobian = self._jacobian()
        gradient, normal = jacobian @ self.residuals, jacobian @ jacobian.t()
        # At a bound, only a step inwards is possible.
        fixed = (self.latent[0].abs() >= self.bound) & (self.latent[0] * gradient < 0)
        gradient[fixed], normal[fixed], normal[:, fixed] = 0, 0, 0
        scale = torch.diag(normal.diagonal().clamp(min=1e-6))
        before = self.loss
        for _ in range(6):
            change = torch.linalg.solve(normal + self.damping * scale, -gradient)
            latent = (self.latent + change).clamp(-self.bound, self.bound)
            residuals = self._residuals(latent)
            if residuals.square().sum().item() < before:
                self._take(latent, residuals)
                self.damping = max(self.damping / 4, 1e-7)
                return self.loss < before * (1 - _ENOUGH)
            self.damping *= 4
        return False

    def _jacobian(self) -> Tensor:
        """Returns the derivatives (nz, H * W * C) of the picture by the latent."""

        first, rest = _halves(self.generator)  # `vmap` cannot do what a linear generator does between them for speed

        def along(direction: Tensor) -> Tensor:
            return jvp(lambda latent: rest(first(latent)), (self.latent,), (direction[None],))[1].flatten()

        directions = torch.eye(self.latent.shape[1], device=self.latent.device)
        return torch.cat([vmap(along)(block) for block in directions.split(_BLOCK)])


def _free_first_layer(generator: Generator, target: Tensor, latent: Tensor, steps: _Steps) -> Tensor:
    """Returns the picture (1, C, H, W) that is found by changing the output of the first layer, from a latent's."""
    first, rest = _halves(generator)
    features = first(latent).requires_grad_()
    optimiser = torch.optim.Adam([features], lr=0.1 * features.detach().std().item(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, FIRST_LAYER_STEPS)
    for _ in range(FIRST_LAYER_STEPS):
        features.grad = torch.autograd.grad(_pyramid_loss(rest(features), target), features)[0]
        optimiser.step()
        schedule.step()
        steps.step()
    with torch.no_grad():
        return rest(features)


def _halves(generator: Generator) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Returns the first layer, from latents (N, nz) to its output (N, C, 4, 4), and all that follows."""
    if generator.settings.architecture == "conv":
        return (lambda latents: generator.main[0](latents[:, :, None, None])), generator.main[1:]
    return (lambda latents: generator.project(latents).unflatten(1, (-1, 4, 4))), generator.main


def _pyramid_loss(pictures: Tensor, target: Tensor) -> Tensor:
    """The mean absolute difference, summed over the full size and three halvings of it."""
    sizes = (1, 2, 4, 8)
    return torch.stack([l1_loss(avg_pool2d(pictures, k), avg_pool2d(target, k)) for k in sizes]).sum()
