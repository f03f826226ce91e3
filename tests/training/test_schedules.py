"""Schedules: known values, and what a training makes of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcgan.networks import Settings
from dcgan.system.hardware import Hardware
from dcgan.training import schedules
from dcgan.training.step import Recipe, Trainer

SETTINGS = Settings(image_size=32, ngf=2, ndf=2, nz=4, discriminator_norm="none")
RECIPE = Recipe(batch_size=4, lr=0.01)
CPU = Hardware(torch.device("cpu"), "fp32")
STEPS = 8
values = st.floats(0, 1e3)


@given(values, values, st.floats(0, 1))
def test_a_cosine_goes_from_the_first_value_to_the_last(first: float, last: float, progress: float) -> None:
    assert schedules.cosine(first, last, 0) == first
    assert schedules.cosine(first, last, 1) == pytest.approx(last)
    assert schedules.cosine(first, last, 0.5) == pytest.approx((first + last) / 2)
    low, high = sorted((first, last))
    assert low - 1e-9 <= schedules.cosine(first, last, progress) <= high + 1e-9
    assert schedules.cosine(first, first, progress) == first  # exactly: a constant changes no byte


def test_a_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, eta_min=0.0025)
    for step in range(STEPS):
        assert schedules.cosine(0.01, 0.0025, step / STEPS) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_a_warm_up_rises_linearly_and_stays() -> None:
    assert [schedules.warm_up(seen, 0.4) for seen in (4, 100, 400, 4000)] == [0.01, 0.25, 1.0, 1.0]
    assert schedules.warm_up(4, 0) == 1.0


def test_the_half_life_is_at_most_a_share_of_the_pictures_seen() -> None:
    assert [schedules.halflife(seen, 2.0, 0.05) for seen in (64, 20_000, 40_000, 80_000)] == [3.2, 1000, 2000, 2000]
    assert schedules.halflife(64, 2.0, 0.2) == pytest.approx(12.8)
    assert schedules.halflife(64, 0.0, 0.2) == 0


def trained(recipe: Recipe, steps: int | None = STEPS) -> tuple[Trainer, list[tuple[float, float]], torch.Tensor]:
    """A trainer after STEPS steps, the learning rates of each, and the recorded values (STEPS, C)."""
    trainer, lrs, recorded = Trainer(SETTINGS, recipe, CPU, steps=steps), [], []
    for step in range(STEPS):
        real = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step)) * 2 - 1
        recorded.append(trainer.step(step, real.contiguous(memory_format=torch.channels_last)))
        pair = trainer.optimizer_g.param_groups[0]["lr"], trainer.optimizer_d.param_groups[0]["lr"]
        lrs.append(pair)
    return trainer, lrs, torch.stack(recorded)


def test_both_learning_rates_warm_up_and_decay() -> None:
    recipe = replace(RECIPE, lr_discriminator=0.02, lr_warmup_kimg=0.016, lr_decay=0.25)
    _, lrs, _ = trained(recipe)
    for step, (generator, discriminator) in enumerate(lrs):
        share = min(1, (step + 1) / 4) * (0.25 + 0.75 * (1 + math.cos(math.pi * step / STEPS)) / 2)
        assert generator == pytest.approx(0.01 * share)
        assert discriminator == pytest.approx(0.02 * share)


def test_without_a_schedule_the_learning_rates_are_those_given() -> None:
    for recipe, steps in ((RECIPE, STEPS), (replace(RECIPE, lr_decay=0.1), None)):
        _, lrs, _ = trained(recipe, steps)
        assert lrs == [(0.01, 0.01)] * STEPS


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.discriminator.parameters()])


def test_the_penalties_change_their_weight_and_keep_their_steps() -> None:
    penalised = replace(RECIPE, r1_gamma=2.0, r1_interval=4)
    constant, _, recorded = trained(penalised)
    assert [bool(torch.isfinite(row[-1])) for row in recorded] == [step % 4 == 0 for step in range(STEPS)]
    same, _, _ = trained(replace(penalised, r1_gamma_end=2.0))
    assert torch.equal(weights(same), weights(constant))
    # At step 0 the weight is still that of the beginning; at step 4 it is halfway to its end.
    _, _, later = trained(replace(penalised, r1_gamma_end=0.0))
    assert torch.equal(later[:4, :-1], recorded[:4, :-1]) and not torch.equal(later[5:, :-1], recorded[5:, :-1])


def test_rare_penalties_are_scaled_up() -> None:
    """One step with penalties of interval 8 is that of interval 1 with eight times the weight."""
    rare, often = (trained(replace(RECIPE, r1_gamma=g, r1_interval=i), None)[2] for g, i in ((1.0, 8), (8.0, 1)))
    judged = [0, 2, 3]  # values of step 1 from before its own update of the discriminator
    assert torch.equal(rare[1, judged], often[1, judged])
    assert not torch.equal(rare[2], often[2])
