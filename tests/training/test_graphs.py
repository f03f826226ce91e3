"""Steps as graphs: the same bytes as plain steps, for every kind of step, and no value of an earlier step kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cpu_graphs
import pytest
import torch
from torch import Tensor

from dcgan.networks import Settings
from dcgan.system import hardware
from dcgan.system.hardware import Hardware
from dcgan.training.graphs import WARM_UP, Graphed
from dcgan.training.step import Recipe, Trainer

BATCH = 8
CPU = torch.device("cpu")
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "relativistic, penalties, averaged": (
        {"discriminator_norm": "none"},
        {"loss": "relativistic", "r1_gamma": 0.3, "lr": 1e-3, "beta1": 0.0, "ema_halflife_kimg": 0.05},
    ),
    "hinge, linear layers, uniform latents": ({"architecture": "linear", "latent": "uniform"}, {"loss": "hinge"}),
    "augmented": ({}, {"augment": True, "ema_halflife_kimg": 0.05}),
    "pixel, coarse": (
        {"generator_norm": "pixel", "discriminator_norm": "none", "coarse_share": 0.3},
        {"loss": "relativistic", "r1_gamma": 1.0},
    ),
    "spectral, lsgan, penalties": ({"discriminator_norm": "spectral"}, {"loss": "lsgan", "r1_gamma": 1.0}),
    "scheduled": (
        {"discriminator_norm": "none"},
        {"r1_gamma": 1.0, "r1_gamma_end": 0.1, "r1_interval": 4, "lr_warmup_kimg": 0.1, "lr_decay": 0.1},
    ),
}


@pytest.fixture(autouse=True)
def graphs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    hardware.make_deterministic()
    torch.set_num_threads(1)
    cpu_graphs.install(monkeypatch)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(before)


def trainer(kind: str, graphed: bool) -> Trainer:
    settings, recipe = KINDS[kind]
    made = Trainer(
        Settings(image_size=32, nz=6, ngf=4, ndf=4, **settings),
        Recipe(batch_size=BATCH, **recipe),
        Hardware(CPU, "fp32"),
        steps=50,
    )
    if graphed:
        for optimizer in (made.optimizer_g, made.optimizer_d):  # a tensor, as on a GPU
            optimizer.param_groups[0]["lr"] = torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float64)
        made._update = Graphed(made._networks, CPU, made._forget_gradients_of_both)
    return made


def pictures(step: int) -> Tensor:
    drawn = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(step))
    return (drawn * 2 - 1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", KINDS)
def test_graphed_steps_are_the_plain_ones_to_the_byte_also_after_a_resume(kind: str) -> None:
    plain, graphed = trainer(kind, graphed=False), trainer(kind, graphed=True)
    steps = (WARM_UP + 2) * plain.recipe.r1_interval  # each kind of step is replayed at least once
    half = steps // 2 + 1
    for step in range(steps):
        if step == half:
            resumed = trainer(kind, graphed=True)
            resumed.load_state(graphed.state())
            graphed = resumed
        expected, values = plain.step(step, pictures(step)), graphed.step(step, pictures(step))
        assert torch.equal(expected.nan_to_num(7.0), values.nan_to_num(7.0)), step
    after, known = graphed.state(), plain.state()
    assert after.keys() == known.keys()
    assert all(torch.equal(after[name], known[name]) for name in known)


def test_a_kind_is_captured_at_its_third_call_and_results_are_copies() -> None:
    calls = []

    def double(kind: object, value: Tensor) -> Tensor:
        calls.append(kind)
        return value * 2

    graphed = Graphed(double, CPU, lambda: None)
    results = [graphed(kind, torch.full((2,), float(i))) for i, kind in enumerate("aababaab")]
    assert calls == ["a", "a", "b", "a", "b", "b"]  # twice plain, and once as it is captured; later calls are replayed
    assert [result.tolist() for result in results] == [[2.0 * i] * 2 for i in range(8)]


def test_a_capture_that_would_wait_for_the_gpu_is_noticed() -> None:
    def waiting(kind: object, value: Tensor) -> Tensor:
        return value * float(value.sum())

    graphed = Graphed(waiting, CPU, lambda: None)
    with pytest.raises(AssertionError, match="waits for the GPU"):
        for _ in range(WARM_UP + 1):
            graphed(0, torch.ones(2))
