"""The training: every kind of it works, is repeatable to the byte, survives interruption, and learns."""

from __future__ import annotations

import errno
import itertools
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from project import ROOT
from torch import Tensor, nn

from dcgan import networks, params
from dcgan.data import images
from dcgan.networks import Generator, Settings
from dcgan.sampling import draw_latents, generate, random_state
from dcgan.schema import TrainParams
from dcgan.system import hardware
from dcgan.system.choices import Loss
from dcgan.system.errors import Interrupted, UserError
from dcgan.system.hardware import Hardware
from dcgan.system.ranks import ALONE, Ranks
from dcgan.training import curves, loop
from dcgan.training.batches import batches, digest
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.loop import Nobody, Result, train
from dcgan.training.step import COLUMNS, Recipe, Trainer

Pixels = npt.NDArray[np.uint8]
CPU = Hardware(torch.device("cpu"), "fp32")
SMALL = Settings(image_size=32, nz=6, ngf=4, ndf=4)
RECIPE = Recipe(epochs=3, batch_size=8)
STEPS = 9  # three epochs of 24 pictures in batches of 8
PRESETS = params.preset_names(ROOT / "presets")
examples = hypothesis_settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module", autouse=True)
def as_in_the_pipeline() -> Iterator[None]:
    """Deterministic algorithms only, as the stage asks for; for speed one thread, and few latents for BatchNorm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        patch.setattr(loop, "FINAL_BATCHES", 2)
        patch.setattr(loop, "GRID_BATCHES", 1)
        patch.setattr("dcgan.sampling.BATCH_NORM_BATCH", 32)
        before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
        hardware.make_deterministic()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(before)


@cache
def pictures(nc: int = 3, side: int = 32, count: int = 24) -> Pixels:
    """Noise on slopes of colour: something to learn, and no two alike."""
    random = np.random.default_rng(0)
    slope = np.linspace(0, 1, side).reshape(1, side, 1, 1) * random.uniform(50, 150, (count, 1, 1, nc))
    return (slope + random.uniform(0, 100, (count, side, side, nc))).astype(np.uint8)


def run(folder: Path, settings: Settings, recipe: Recipe, **changes: Any) -> Result:
    """A training in the checkpoint folder `folder`, to its end unless `stop` says otherwise."""
    arguments: dict[str, Any] = {
        "faces": pictures(settings.nc, settings.image_size),
        "machine": CPU,
        "store": CheckpointStore(folder, "f" * 32),
        "observer": Nobody(),
        "stop": lambda: None,
    }
    return train(settings=settings, recipe=recipe, **{**arguments, **changes})


class Bytes(NamedTuple):
    """All that a training leaves."""

    generator: bytes
    discriminator: bytes
    history: bytes
    grids: list[bytes]


def bytes_of(result: Result, settings: Settings, folder: Path) -> Bytes:
    files = [folder / name for name in ("generator", "discriminator")]
    for file, network in zip(files, (result.generator, result.discriminator), strict=True):
        networks.save(file, network, settings, {})
    grids = [path.read_bytes() for path in result.grids if isinstance(path, Path)]
    return Bytes(files[0].read_bytes(), files[1].read_bytes(), result.history.tobytes(), grids)


# Every kind of training.


def check(result: Result, settings: Settings, recipe: Recipe, steps: int) -> None:
    """A generator of the right kind, which is no longer the one that the training began with."""
    assert result.history.shape == (steps, len(COLUMNS))
    assert np.isfinite(result.history[:, :-1]).all()
    taken = np.isfinite(result.history[:, -1])
    assert taken.tolist() == [bool(recipe.r1_gamma) and step % recipe.r1_interval == 0 for step in range(steps)]
    assert (result.history[:, 2:5] >= 0).all() and (result.history[:, 2:5] <= 1).all()
    assert len(result.grids) == recipe.epochs + 1 and all(
        isinstance(path, Path) and path.is_file() for path in result.grids
    )
    assert result.generator.settings == settings and not result.generator.training
    before = networks.build(settings, random_state(recipe.seed, "weights"))
    for old, new in zip(before, (result.generator, result.discriminator), strict=True):
        assert set(old.state_dict()) == set(new.state_dict())
        for (name, a), b in zip(old.named_parameters(), new.parameters(), strict=True):
            assert b.device.type == "cpu" and torch.isfinite(b).all()
            in_vain = recipe.loss == "relativistic" and name.endswith("bias") and a.shape == (1,)
            assert in_vain or not torch.equal(a, b), name  # a bias of the logits cancels in their differences
    pixels = generate(result.generator, draw_latents(settings, 3, random_state(0, "x")))
    assert pixels.shape == (3, settings.image_size, settings.image_size, settings.nc)
    assert not np.array_equal(pixels[0], pixels[1])
    assert result.speed["images_per_second"] > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains(tmp_path: Path, faces: Path, name: str) -> None:
    small = {"ngf": 4, "ndf": 4, "batch_size": 8, "epochs": 1}
    preset = params.load_preset(ROOT / "presets", name).section(TrainParams).model_copy(update=small)
    settings, recipe = preset.part(Settings), preset.part(Recipe)
    machine = hardware.resolve(0, preset.precision)
    scale = np.arange(settings.image_size) * 64 // settings.image_size
    data = images.open_faces(faces, "train")[:16, scale][:, :, scale]
    result = run(tmp_path, settings, recipe, faces=data, machine=machine)
    check(result, settings, recipe, 2)


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{loss: ({}, {"loss": loss}) for loss in get_args(Loss)},
    "smoothed": ({}, {"label_smoothing": 0.1}),
    "linear": ({"architecture": "linear"}, {}),
    "uniform": ({"latent": "uniform"}, {}),
    "no norm": ({"discriminator_norm": "none"}, {}),
    "spectral": ({"discriminator_norm": "spectral"}, {}),
    "grey": ({"nc": 1}, {}),
    "64": ({"image_size": 64}, {}),
    "128": ({"image_size": 128}, {"epochs": 1}),
    "penalised": ({"discriminator_norm": "none"}, {"r1_gamma": 1.0}),
    "penalised, spectral": ({"discriminator_norm": "spectral"}, {"r1_gamma": 1.0}),
    "averaged": ({}, {"ema_halflife_kimg": 1.0}),
    "augmented": ({}, {"augment": True}),
    "augmented, grey": ({"nc": 1}, {"augment": True}),
    "pixel, coarse": (
        {"generator_norm": "pixel", "discriminator_norm": "none", "coarse_share": 0.3},
        {"loss": "relativistic", "r1_gamma": 1.0, "r1_interval": 2},
    ),
    "two rates": ({}, {"lr_discriminator": 1e-4, "beta1": 0.0, "beta2": 0.9}),
    "all at once": (
        {"architecture": "linear", "nc": 1, "latent": "uniform", "discriminator_norm": "spectral"},
        {"loss": "relativistic", "r1_gamma": 2.0, "ema_halflife_kimg": 0.01, "augment": True},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_training_works(tmp_path: Path, kind: str) -> None:
    settings, recipe = replace(SMALL, **KINDS[kind][0]), replace(RECIPE, **{"epochs": 1, **KINDS[kind][1]})
    check(run(tmp_path, settings, recipe), settings, recipe, 3)


def test_bf16_trains_and_stays_near_float32(tmp_path: Path) -> None:
    results = [run(tmp_path / kind, SMALL, RECIPE, machine=Hardware(CPU.device, kind)) for kind in ("fp32", "bf16")]
    assert all(p.dtype == torch.float32 for p in results[1].generator.parameters())
    a, b = (result.history[:, :-1] for result in results)
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, rtol=0.1, atol=0.05)


# A step against a loop written independently.


def tutorial_steps(settings: Settings, recipe: Recipe, real: Tensor, steps: int) -> tuple[list[list[float]], nn.Module]:
    """The loop of the PyTorch DCGAN tutorial, with Adam as it stands there and sigmoid and BCELoss."""
    netg, netd = networks.build(settings, random_state(recipe.seed, "weights"))
    optimizer_d = torch.optim.Adam(netd.parameters(), recipe.lr, (recipe.beta1, recipe.beta2), foreach=False)
    optimizer_g = torch.optim.Adam(netg.parameters(), recipe.lr, (recipe.beta1, recipe.beta2), foreach=False)
    criterion, rows = nn.BCELoss(), []
    for number in range(steps):
        noise = draw_latents(settings, len(real), random_state(recipe.seed, "latents", number))
        netd.zero_grad()
        output = netd(real).sigmoid()
        error_real = criterion(output, torch.full_like(output, 1 - recipe.label_smoothing))
        error_real.backward()
        d_x = output.mean().item()
        fake = netg(noise.reshape(*noise.shape, 1, 1))
        output = netd(fake.detach()).sigmoid()
        error_fake = criterion(output, torch.zeros_like(output))
        error_fake.backward()
        d_g_z1 = output.mean().item()
        optimizer_d.step()
        netg.zero_grad()
        output = netd(fake).sigmoid()
        error_g = criterion(output, torch.ones_like(output))
        error_g.backward()
        optimizer_g.step()
        rows.append([(error_real + error_fake).item(), error_g.item(), d_x, d_g_z1, output.mean().item()])
    return rows, netg


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_training_is_the_tutorials_loop(smoothing: float) -> None:
    settings, recipe = replace(SMALL, image_size=64), replace(RECIPE, label_smoothing=smoothing)
    real = torch.from_numpy(pictures(side=64)[:8]).permute(0, 3, 1, 2) / 127.5 - 1
    expected, netg = tutorial_steps(settings, recipe, real, 4)
    trainer = Trainer(settings, recipe, CPU)
    rows = [trainer.step(number, real)[:5].tolist() for number in range(4)]
    np.testing.assert_allclose(rows, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(rows[0], expected[0], rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(trainer.generator.parameters(), netg.parameters(), strict=True):
        assert (ours - theirs).abs().mean() < 0.05 * recipe.lr  # Adam's steps are of the size of lr


# Averages.


def test_without_averaging_the_raw_weights_are_sampled() -> None:
    trainer = Trainer(SMALL, RECIPE, CPU)
    for number, real in enumerate(batches(pictures(), 8, 1, 0, 3, CPU.device)):
        trainer.step(number, real)
    pairs = zip(trainer.sampler(1).parameters(), trainer.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("halflife_kimg", [0.001, 1.0])
def test_with_averaging_the_average_of_the_weights_so_far_is_sampled(halflife_kimg: float) -> None:
    """Half-life in pictures, at most a twentieth of those seen."""
    trainer = Trainer(SMALL, replace(RECIPE, lr=0.01, ema_halflife_kimg=halflife_kimg), CPU)
    average = [p.detach().double() for p in trainer.generator.parameters()]
    for number, real in enumerate(batches(pictures(), 8, 1, 0, 9, CPU.device)):
        trainer.step(number, real)
        halflife = min(1000 * halflife_kimg, 0.05 * 8 * (number + 1))
        kept = 2 ** (-8 / halflife)
        now = trainer.generator.parameters()
        average = [kept * old + (1 - kept) * new.detach().double() for old, new in zip(average, now, strict=True)]
    for expected, sampled in zip(average, trainer.sampler(1).parameters(), strict=True):
        torch.testing.assert_close(sampled.double(), expected, rtol=1e-4, atol=1e-6)


def test_sampling_changes_nothing_in_the_training() -> None:
    trainer = Trainer(SMALL, replace(RECIPE, ema_halflife_kimg=1.0), CPU)
    before = {name: tensor.clone() for name, tensor in trainer.state().items()}
    trainer.sampler(2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.state().items())


# The same bytes.

RESUMED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "wide, mirrored": ({"ngf": 8, "ndf": 8, "nc": 1}, {"ema_halflife_kimg": 0.02, "mirror": True}),
    "spectral, augmented": ({"discriminator_norm": "spectral"}, {"augment": True, "loss": "hinge"}),
    "penalised": KINDS["all at once"],
    "pixel, coarse": KINDS["pixel, coarse"],
}


def kind_of(name: str) -> tuple[Settings, Recipe]:
    return replace(SMALL, **RESUMED[name][0]), replace(RECIPE, **RESUMED[name][1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bytes]:
    @cache
    def of(name: str) -> Bytes:
        folder = tmp_path_factory.mktemp("uninterrupted")
        return bytes_of(run(folder, *kind_of(name)), kind_of(name)[0], folder)

    return of


def after(steps: int) -> Callable[[], int | None]:
    """Wants the training to stop after so many steps of this process."""
    count = itertools.count(1)
    return lambda: signal.SIGTERM if next(count) == steps else None


class Killed(Exception):
    """The process is gone, and nothing was saved on the way."""


def killed_after(steps: int) -> Callable[[], int | None]:
    count = itertools.count(1)

    def stop() -> None:
        if next(count) == steps:
            raise Killed

    return stop


@pytest.mark.parametrize("kind", RESUMED)
def test_training_twice_gives_the_same_bytes(tmp_path: Path, kind: str, uninterrupted: Callable[[str], Bytes]) -> None:
    torch.manual_seed(99)  # whatever else was drawn
    assert bytes_of(run(tmp_path, *kind_of(kind)), kind_of(kind)[0], tmp_path) == uninterrupted(kind)


def test_two_threads_give_the_same_bytes_each_time_and_when_interrupted(tmp_path: Path) -> None:
    settings, recipe = kind_of("wide, mirrored")[0], replace(kind_of("wide, mirrored")[1], epochs=1)
    torch.set_num_threads(2)
    try:
        once, again = (bytes_of(run(tmp_path / name, settings, recipe), settings, tmp_path) for name in "ab")
        with pytest.raises(Interrupted):
            run(tmp_path / "c", settings, recipe, stop=after(1))
        resumed = bytes_of(run(tmp_path / "c", settings, recipe), settings, tmp_path)
    finally:
        torch.set_num_threads(1)
    assert once == again == resumed


def test_what_is_only_watched_changes_no_bytes(tmp_path: Path, uninterrupted: Callable[[str], Bytes]) -> None:
    result = run(tmp_path, *kind_of("plain"), checkpoint_minutes=0.0, log_interval=1, observer=Watcher())
    assert bytes_of(result, kind_of("plain")[0], tmp_path) == uninterrupted("plain")


def test_another_seed_gives_other_bytes(tmp_path: Path, uninterrupted: Callable[[str], Bytes]) -> None:
    settings, recipe = kind_of("plain")
    other = bytes_of(run(tmp_path, settings, replace(recipe, seed=2)), settings, tmp_path)
    assert all(a != b for a, b in zip(other, uninterrupted("plain"), strict=True))


@pytest.mark.parametrize(
    ("kind", "step"), [*itertools.product(RESUMED, (1, 5)), ("plain", 3), ("plain", 8), ("plain", 9)]
)
def test_an_interrupted_training_ends_in_the_same_bytes(
    tmp_path: Path, kind: str, step: int, uninterrupted: Callable[[str], Bytes]
) -> None:
    with pytest.raises(Interrupted) as error:
        run(tmp_path, *kind_of(kind), stop=after(step))
    assert error.value.signal == signal.SIGTERM
    found = CheckpointStore(tmp_path, "f" * 32).latest()
    assert found is not None and found[0] == step
    result = run(tmp_path, *kind_of(kind), stop=killed_after(STEPS - step + 1))  # does no step twice
    assert bytes_of(result, kind_of(kind)[0], tmp_path) == uninterrupted(kind)


def test_a_training_interrupted_after_every_step_ends_in_the_same_bytes(
    tmp_path: Path, uninterrupted: Callable[[str], Bytes]
) -> None:
    for _ in range(STEPS):
        with pytest.raises(Interrupted):
            run(tmp_path, *kind_of("spectral, augmented"), stop=after(1))
    result = run(tmp_path, *kind_of("spectral, augmented"))
    assert bytes_of(result, kind_of("spectral, augmented")[0], tmp_path) == uninterrupted("spectral, augmented")


@pytest.mark.parametrize(("kind", "step"), [("plain", 2), ("plain", 7), ("penalised", 4)])
def test_a_killed_training_goes_on_from_its_last_checkpoint(
    tmp_path: Path, kind: str, step: int, uninterrupted: Callable[[str], Bytes]
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, *kind_of(kind), stop=killed_after(step), checkpoint_minutes=0.0)
    found = CheckpointStore(tmp_path, "f" * 32).latest()
    assert found is not None and found[0] == step - 1
    result = run(tmp_path, *kind_of(kind), checkpoint_minutes=0.0)
    assert bytes_of(result, kind_of(kind)[0], tmp_path) == uninterrupted(kind)


def test_a_training_killed_before_any_checkpoint_starts_anew(
    tmp_path: Path, uninterrupted: Callable[[str], Bytes]
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, *kind_of("plain"), stop=killed_after(5))
    assert bytes_of(run(tmp_path, *kind_of("plain")), kind_of("plain")[0], tmp_path) == uninterrupted("plain")


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_cost_steps_and_change_no_bytes(
    tmp_path: Path, damaged: int, uninterrupted: Callable[[str], Bytes]
) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, *kind_of("wide, mirrored"), stop=after(7), checkpoint_minutes=0.0)
    newest = sorted((tmp_path / ("f" * 32)).glob("*.safetensors"))[-damaged:]
    assert len(newest) == damaged
    for path in newest:
        path.write_bytes(path.read_bytes()[:-3])
    result = run(tmp_path, *kind_of("wide, mirrored"), checkpoint_minutes=0.0)
    assert bytes_of(result, kind_of("wide, mirrored")[0], tmp_path) == uninterrupted("wide, mirrored")
    found = CheckpointStore(tmp_path, "f" * 32).latest()
    assert found is not None and found[0] == STEPS


def test_a_finished_training_is_taken_from_its_checkpoint(
    tmp_path: Path, uninterrupted: Callable[[str], Bytes]
) -> None:
    run(tmp_path, *kind_of("wide, mirrored"))
    result = run(tmp_path, *kind_of("wide, mirrored"), stop=killed_after(1))
    assert result.speed == {}
    assert bytes_of(result, kind_of("wide, mirrored")[0], tmp_path) == uninterrupted("wide, mirrored")


# What an observer is told.


class Watcher:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.sheets: list[tuple[int, Pixels]] = []
        self.numbers: list[tuple[int, dict[str, float]]] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        (self.rows if "d_loss" in values else self.numbers).append((step, values))

    def grid(self, step: int, sheet: Pixels) -> None:
        self.sheets.append((step, sheet))


def test_an_observer_sees_the_means_and_the_grids(tmp_path: Path) -> None:
    watcher = Watcher()
    recipe = replace(RECIPE, r1_gamma=1.0)
    result = run(tmp_path, SMALL, recipe, observer=watcher, log_interval=4)
    assert [step for step, _ in watcher.rows] == [4, 8, 9]
    for (step, values), start in zip(watcher.rows, (0, 4, 8), strict=True):
        part = result.history[start:step]
        expected = {name: part[:, i].mean() for i, name in enumerate(COLUMNS[:-1])}
        if np.isfinite(part[:, -1]).any():
            expected["penalty"] = np.nanmean(part[:, -1])
        assert values == pytest.approx(expected, rel=1e-5)
    assert [step for step, _ in watcher.sheets] == [0, 3, 6, 9]
    for (_, sheet), path in zip(watcher.sheets, result.grids, strict=True):
        images.save_png(tmp_path / "sheet.png", sheet)
        assert isinstance(path, Path) and (tmp_path / "sheet.png").read_bytes() == path.read_bytes()


def test_a_resumed_training_tells_the_same(tmp_path: Path) -> None:
    whole, rest = Watcher(), Watcher()
    run(tmp_path / "a", SMALL, RECIPE, observer=whole, log_interval=4)
    with pytest.raises(Interrupted):
        run(tmp_path / "b", SMALL, RECIPE, stop=after(5), log_interval=4)
    run(tmp_path / "b", SMALL, RECIPE, observer=rest, log_interval=4)
    assert rest.rows == whole.rows[1:]
    assert [step for step, _ in rest.sheets] == [6, 9]
    assert rest.numbers == whole.numbers[1:] and [step for step, _ in whole.numbers] == [3, 6, 9]


def test_a_grid_shows_the_fixed_latents_by_the_sampled_generator(tmp_path: Path) -> None:
    watcher = Watcher()
    recipe = replace(RECIPE, epochs=1, ema_halflife_kimg=1.0)
    run(tmp_path, SMALL, recipe, observer=watcher)
    trainer = Trainer(SMALL, recipe, CPU)
    latents = draw_latents(SMALL, 64, random_state(1, "grid"))

    def sheet() -> Pixels:
        return images.grid(generate(trainer.sampler(loop.GRID_BATCHES), latents), columns=8)

    untrained = sheet()
    for number, real in enumerate(batches(pictures(), 8, 1, 0, 3, CPU.device)):
        trainer.step(number, real)
    expected = [untrained, sheet()]
    assert np.array_equal([pixels for _, pixels in watcher.sheets], expected)


# What goes wrong.


def test_a_batch_larger_than_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size: 25 is more than the 24 pictures"):
        run(tmp_path, SMALL, replace(RECIPE, batch_size=25))


def test_a_batch_that_the_ranks_cannot_share_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size: 15 cannot be shared equally by 2 ranks"):
        run(tmp_path, SMALL, replace(RECIPE, batch_size=15), ranks=Ranks(rank=0, count=2))


def test_a_batch_of_all_the_data_is_a_step_an_epoch(tmp_path: Path) -> None:
    assert run(tmp_path, SMALL, replace(RECIPE, batch_size=24)).history.shape == (3, len(COLUMNS))


@pytest.mark.parametrize("log_interval", [1, 4, 50])
def test_a_loss_that_is_no_longer_finite_ends_in_one_sentence(tmp_path: Path, log_interval: int) -> None:
    settings = replace(SMALL, discriminator_norm="none")
    with pytest.raises(UserError, match=r"is NaN or infinite at step [12]; there is no checkpoint yet\."):
        run(tmp_path, settings, replace(RECIPE, lr=1e30, loss="lsgan"), log_interval=log_interval)


@pytest.mark.parametrize("log_interval", [1, 50])
def test_nothing_that_is_not_finite_is_saved(tmp_path: Path, log_interval: int) -> None:
    """Sound steps, then weights that are no numbers, with a checkpoint wanted at every step."""
    real_step = Trainer.step

    def step(self: Trainer, number: int, real: Tensor) -> Tensor:
        row = real_step(self, number, real)
        if number == 4:  # the fifth
            with torch.no_grad():
                next(self.discriminator.parameters()).fill_(math.nan)  # the losses of this step are finite still
        return row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        with pytest.raises(UserError, match=r"infinite at step [56]; the last good checkpoint is from step 4\. Train"):
            run(tmp_path, SMALL, RECIPE, checkpoint_minutes=0.0, log_interval=log_interval)
    found = CheckpointStore(tmp_path, "f" * 32).latest()
    assert found is not None and found[0] == 4
    assert all(tensor.isfinite().all() for name, tensor in found[1].items() if name != "history")


class FullDisk(CheckpointStore):
    """Full for a while: at the savings of the given numbers."""

    def __init__(self, folder: Path, full: set[int]) -> None:
        super().__init__(folder, "f" * 32)
        self.full, self.count = full, 0

    def save(self, step: int, tensors: dict[str, Tensor]) -> Path:
        self.count += 1
        if self.count in self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().save(step, tensors)


def test_a_disk_that_is_full_for_a_while_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, uninterrupted: Callable[[str], Bytes]
) -> None:
    store = FullDisk(tmp_path, {2, 3})
    result = run(tmp_path, *kind_of("plain"), store=store, checkpoint_minutes=0.0)
    assert bytes_of(result, kind_of("plain")[0], tmp_path) == uninterrupted("plain")
    warned = [record.getMessage() for record in caplog.records]
    said = [line for line in warned if "Cannot write the checkpoint" in line]
    assert ["of step 2" in said[0], "of step 3" in said[1], len(said)] == [True, True, 2]
    assert "No space left" in said[0]


def test_a_grid_that_cannot_be_written_is_kept_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, uninterrupted: Callable[[str], Bytes]
) -> None:
    count = itertools.count(1)

    def save_png(path: Path, sheet: Pixels) -> None:
        if next(count) <= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        images.save_png(path, sheet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcgan.training.state.save_png", save_png)
        result = run(tmp_path, *kind_of("plain"), checkpoint_minutes=0.0)
    assert bytes_of(result, kind_of("plain")[0], tmp_path) == uninterrupted("plain")
    said = [record.getMessage() for record in caplog.records if "Cannot write the checkpoint" in record.getMessage()]
    assert [line.split(":")[0] for line in said] == [f"Cannot write the checkpoint of step {i}" for i in (1, 2, 3)]


def test_checkpoints_whose_grids_are_gone_are_not_resumed(
    tmp_path: Path, uninterrupted: Callable[[str], Bytes]
) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, *kind_of("plain"), stop=after(7))
    next((tmp_path / ("f" * 32)).glob("epoch_*.png")).unlink()
    with pytest.raises(Interrupted):
        run(tmp_path, *kind_of("plain"), stop=after(2))
    found = CheckpointStore(tmp_path, "f" * 32).latest()
    assert found is not None and found[0] == 2
    assert bytes_of(run(tmp_path, *kind_of("plain")), kind_of("plain")[0], tmp_path) == uninterrupted("plain")


def test_a_state_that_must_be_saved_after_a_signal_and_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, SMALL, RECIPE, store=FullDisk(tmp_path, {1}), stop=after(2))


def test_a_disk_that_stays_full_does_not_lose_the_finished_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, uninterrupted: Callable[[str], Bytes]
) -> None:
    def save_png(path: Path, sheet: Pixels) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcgan.training.state.save_png", save_png)
        result = run(tmp_path, *kind_of("plain"))
    assert "Cannot write the checkpoint" in caplog.text
    expected = uninterrupted("plain")
    assert bytes_of(result, kind_of("plain")[0], tmp_path) == expected._replace(grids=[])
    for sheet, png in zip(result.grids, expected.grids, strict=True):
        images.save_png(tmp_path / "sheet.png", sheet)
        assert (tmp_path / "sheet.png").read_bytes() == png


def test_a_collapse_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A generator of one picture: trained on one, it is compared with data that differ."""
    watcher = Watcher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "generate", lambda *_: np.repeat(pictures()[:1], 64, axis=0))
        run(tmp_path, SMALL, replace(RECIPE, epochs=8), observer=watcher)
    assert [values["diversity"] for _, values in watcher.numbers] == [0.0] * 8
    assert [r.getMessage()[:53] for r in caplog.records] == [
        "the generator has collapsed: after epoch 2 its picture"[:53]
    ]


def test_diverse_pictures_are_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "generate", lambda *_: pictures())
        run(tmp_path, SMALL, RECIPE, observer=watcher)
    assert [values["diversity"] for _, values in watcher.numbers] == [pytest.approx(1)] * 3
    assert not caplog.records


def test_where_the_time_went_is_told(tmp_path: Path) -> None:
    speed = run(tmp_path, SMALL, RECIPE, checkpoint_minutes=0.0).speed
    shares = [speed[f"{what}_share"] for what in ("data", "logging", "sampling", "checkpoints")]
    assert all(0 < share < 1 for share in shares) and sum(shares) < 1
    assert speed["images_per_second"] > 0 and 50 < speed["peak_memory_mb"] < 100_000


# Batches.


def numbered(n: int) -> Pixels:
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def numbers(batch: Tensor) -> list[int]:
    return [round(v) for v in ((batch.double() + 1) * 127.5).flatten().tolist()]


@examples
@given(st.integers(2, 200), st.data(), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_an_epoch_shows_each_picture_at_most_once_and_leaves_out_less_than_a_batch(
    n: int, data: st.DataObject, seed: int, epochs: int
) -> None:
    batch_size = data.draw(st.integers(1, n))
    each = n // batch_size
    shown = [numbers(b) for b in batches(numbered(n), batch_size, seed, 0, epochs * each, CPU.device)]
    assert [len(batch) for batch in shown] == [batch_size] * (epochs * each)
    for epoch in range(epochs):
        seen = [i for batch in shown[epoch * each : (epoch + 1) * each] for i in batch]
        assert len(set(seen)) == len(seen) > n - batch_size and set(seen) <= set(range(n))


@examples
@given(st.integers(4, 60), st.integers(1, 4), st.integers(0, 1000), st.integers(0, 40))
def test_batches_are_the_same_whatever_step_comes_first(n: int, batch_size: int, seed: int, first: int) -> None:
    whole = list(batches(numbered(n), batch_size, seed, 0, 40, CPU.device))
    rest = list(batches(numbered(n), batch_size, seed, first, 40, CPU.device))
    assert len(rest) == 40 - first
    assert all(torch.equal(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    orders = set()
    for seed in (1, 2):
        shown = [numbers(b) for b in batches(numbered(100), 100, seed, 0, 5, CPU.device)]
        orders |= {tuple(order) for order in shown}
        assert all(sorted(order) == list(range(100)) for order in shown)
    assert len(orders) == 10 and tuple(range(100)) not in orders


def test_batches_are_pictures_in_minus_one_to_one(faces: Path) -> None:
    mapped = images.open_faces(faces, "train")
    batch = next(batches(mapped, 16, 1, 0, 1, CPU.device))
    assert batch.shape == (16, 3, 64, 64) and batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.min() >= -1 and batch.max() <= 1 and batch.max() - batch.min() > 1.5
    order = torch.randperm(len(mapped), generator=random_state(1, "order", 0))[:16]
    expected = mapped[order.numpy()].transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(batch.numpy(), expected, atol=1e-6)


@examples
@given(st.integers(1, 4), st.integers(0, 1000), st.integers(0, 29), st.sampled_from([1, 3]))
def test_mirroring_flips_the_same_pictures_on_all_ranks_and_whatever_step_comes_first(
    half: int, seed: int, first: int, nc: int
) -> None:
    faces = np.arange(12 * 2 * nc, dtype=np.uint8).reshape(12, 1, 2, nc)

    def shown(first: int, mirror: bool = True, ranks: Ranks = ALONE) -> list[Tensor]:
        return list(batches(faces, 2 * half, seed, first, 30, CPU.device, ranks, mirror))

    whole = shown(0)
    for plain, mirrored in zip(shown(0, mirror=False), whole, strict=True):
        assert mirrored.is_contiguous(memory_format=torch.channels_last)
        kept, flipped = ((way == mirrored).flatten(1).all(1) for way in (plain, plain.flip(3)))
        assert (kept ^ flipped).all()
    parts = (torch.cat(both) for both in zip(*(shown(first, ranks=Ranks(r, 2)) for r in (0, 1)), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole[first:], parts, strict=True))


def test_mirroring_flips_half_of_the_pictures_and_not_always_the_same() -> None:
    faces = np.tile(np.arange(2, dtype=np.uint8).reshape(1, 1, 2, 1), (64, 1, 1, 1))
    flips = torch.stack([batch[:, 0, 0, 0] > -1 for batch in batches(faces, 64, 1, 0, 100, CPU.device, mirror=True)])
    assert abs(flips.double().mean().item() - 0.5) < 0.03  # 6,400 flips: a standard deviation of 0.00625
    assert len({tuple(step) for step in flips.tolist()}) == 100


def test_a_digest_changes_with_a_pixel_and_with_the_shape(tmp_path: Path) -> None:
    data = pictures().copy()
    known = digest(data)
    np.save(tmp_path / "faces.npy", data)
    assert digest(np.load(tmp_path / "faces.npy", mmap_mode="r")) == known
    for change in ((0, 0, 0, 0), (23, 31, 31, 2), (11, 5, 7, 1)):
        other = data.copy()
        other[change] ^= 1
        assert digest(other) != known
    assert digest(data.reshape(48, 16, 32, 3)) != known
    assert digest(data[::-1]) != known
    many = np.zeros((9000, 1, 1, 1), np.uint8)
    last = many.copy()
    last[-1] = 1
    assert digest(many) != digest(last)


# Distances while training.


class Measure:
    """A distance with its least value in the middle of the training, that keeps what it measured."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def prepare(self, device: torch.device) -> Callable[[Generator], float]:
        assert device == CPU.device
        return self

    def __call__(self, generator: Generator) -> float:
        self.weights.append(torch.cat([p.flatten() for p in generator.parameters()]).clone())
        return self.of(self.weights[-1])

    @staticmethod
    def of(weights: Tensor) -> float:
        """Depends on the weights alone, and on chance as far as anyone can tell."""
        return int(weights.double().sum().abs() * 1e9) % 997 + 1.0


@pytest.mark.parametrize(
    ("kimg", "steps"), [(0.024, [3, 6, 9]), (0.032, [4, 8, 9]), (0.001, [*range(1, 10)]), (9.0, [9])]
)
def test_the_distance_is_measured_as_often_as_asked_and_at_the_end(
    tmp_path: Path, kimg: float, steps: list[int], uninterrupted: Callable[[str], Bytes]
) -> None:
    measure, watcher = Measure(), Watcher()
    quality = loop.Quality(measure.prepare, kimg, "last")
    result = run(tmp_path, *kind_of("plain"), quality=quality, observer=watcher)
    assert result.distances == dict(zip(steps, map(Measure.of, measure.weights), strict=True))
    assert result.step == STEPS and result.speed["measuring_share"] > 0
    # It changes nothing of the training, whose last generator is kept.
    assert bytes_of(result, kind_of("plain")[0], tmp_path) == uninterrupted("plain")


@pytest.mark.parametrize("averaged", [0.0, 0.01])
def test_the_best_generator_is_kept_though_the_training_is_interrupted(tmp_path: Path, averaged: float) -> None:
    recipe, measure = replace(RECIPE, ema_halflife_kimg=averaged), Measure()
    quality = loop.Quality(measure.prepare, 0.001, "best")
    result = run(tmp_path / "whole", SMALL, recipe, quality=quality)
    best = min(result.distances, key=lambda step: result.distances[step])
    assert result.step == best < STEPS
    kept = torch.cat([p.flatten() for p in result.generator.parameters()])
    assert torch.equal(kept, measure.weights[best - 1])
    for step in {1, best, best + 1}:
        with pytest.raises(Interrupted):
            run(tmp_path / str(step), SMALL, recipe, quality=quality, stop=after(step))
        resumed = run(tmp_path / str(step), SMALL, recipe, quality=quality)
        assert resumed.distances == result.distances and resumed.step == best
        assert bytes_of(resumed, SMALL, tmp_path)[:3] == bytes_of(result, SMALL, tmp_path)[:3]
    # What is finished is taken from its checkpoint.
    again = run(tmp_path / "whole", SMALL, recipe, quality=quality)
    assert again.speed == {} and bytes_of(again, SMALL, tmp_path)[:3] == bytes_of(result, SMALL, tmp_path)[:3]


def test_without_a_distance_nothing_is_measured(tmp_path: Path) -> None:
    measure = Measure()
    result = run(tmp_path, *kind_of("plain"), quality=loop.Quality(measure.prepare, 0.0, "last"))
    assert result.distances == {} and not measure.weights


# The table of losses.


@examples
@given(st.integers(1, 60), st.integers(1, 20))
def test_the_table_has_the_means_of_equal_windows(steps: int, most: int) -> None:
    history = np.random.default_rng(steps).normal(size=(steps, len(COLUMNS))).astype(np.float32)
    rows = curves.loss_table(history, {}, most)
    window = math.ceil(steps / most)
    assert len(rows) == math.ceil(steps / window) <= most
    assert [row["step"] for row in rows] == [min(steps, (i + 1) * window) for i in range(len(rows))]
    for i, row in enumerate(rows):
        part = history[i * window : (i + 1) * window].astype(np.float64)
        assert [row[name] for name in COLUMNS] == pytest.approx(part.mean(axis=0).tolist())


def test_a_short_history_is_its_own_table() -> None:
    history = np.arange(18, dtype=np.float32).reshape(3, 6)
    rows = curves.loss_table(history, {})
    assert [list(row.values()) for row in rows] == [[i + 1, *history[i].tolist()] for i in range(3)]


def test_the_penalty_is_the_mean_of_the_steps_that_took_it() -> None:
    history = np.ones((20, len(COLUMNS)), np.float32)
    history[:, -1] = math.nan
    history[0, -1], history[8, -1] = 4, 6
    rows = curves.loss_table(history, {}, most_rows=2)
    assert rows[0]["penalty"] == 5 and math.isnan(rows[1]["penalty"])
    assert rows[1]["d_loss"] == 1 and "quick_frechet_distance" not in rows[0]


def test_distances_stand_in_the_row_of_their_step() -> None:
    rows = curves.loss_table(np.ones((20, len(COLUMNS)), np.float32), {8: 30.0, 20: 20.0}, most_rows=4)
    assert [row["quick_frechet_distance"] for row in rows] == pytest.approx([math.nan, 30, math.nan, 20], nan_ok=True)


# It learns.


def mean_colour(generator: Generator) -> npt.NDArray[np.float64]:
    pixels = generate(generator, draw_latents(generator.settings, 64, random_state(5, "x")))
    return pixels.mean(axis=(0, 1, 2))


@pytest.mark.parametrize("loss", ["bce", "relativistic"])
def test_generated_pictures_take_on_the_colour_of_the_data(tmp_path: Path, loss: str) -> None:
    colour = np.array([200, 60, 30])
    data = np.broadcast_to(colour.astype(np.uint8), (64, 32, 32, 3)).copy()
    settings = Settings(image_size=32, nz=8, ngf=8, ndf=8, discriminator_norm="none")
    more: dict[str, Any] = {"loss": loss, "lr": 2e-3, "epochs": 20, "batch_size": 16, "ema_halflife_kimg": 1.0}
    recipe = replace(RECIPE, **more)
    fresh = networks.build(settings, random_state(recipe.seed, "weights"))[0]
    networks.estimate_batch_norm(fresh, [draw_latents(settings, 64, random_state(0, "batch norm"))])
    assert np.abs(mean_colour(fresh) - colour).max() > 60
    result = run(tmp_path, settings, recipe, faces=data)
    assert np.abs(mean_colour(result.generator) - colour).max() < 20
