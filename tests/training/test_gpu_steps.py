"""Training and measuring on a GPU that is not there: nothing mixes devices, waits needlessly, or depends on chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from fake_cuda import CPU, GPU, FakeCuda, Mistake, fake_cuda
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from dcgan.data.images import Pixels
from dcgan.metrics import collecting, feature_networks, neighbours, small_pictures, weights
from dcgan.networks import Settings, averaged_copy, build, estimate_batch_norm, update_average
from dcgan.sampling import BATCH_NORM_BATCH, draw_latents, generate, random_state
from dcgan.system import hardware
from dcgan.system.choices import Architecture, DiscriminatorNorm, Loss
from dcgan.system.hardware import Hardware, Precision
from dcgan.training import loop, losses, step
from dcgan.training.augment import diff_augment
from dcgan.training.batches import batches
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.loop import Nobody, train
from dcgan.training.step import Recipe, Trainer

BATCH = 4
UP, DOWN = "copy to the GPU", "copy to the CPU"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[FakeCuda]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    hardware.make_deterministic()
    with fake_cuda() as gpu:
        yield gpu
    torch.use_deterministic_algorithms(before)


def settings(**changes: Any) -> Settings:
    return Settings(**{"image_size": 32, "nz": 8, "ngf": 8, "ndf": 8, "discriminator_norm": "none", **changes})


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"batch_size": BATCH, "loss": "relativistic", "r1_gamma": 1.0, "ema_halflife_kimg": 1.0, **changes})


def faces(count: int = 4 * BATCH) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def trainer(gpu: FakeCuda, shape: Settings, how: Recipe, precision: Precision = "fp32") -> Trainer:
    """A trainer whose steps run as while a graph of them is captured."""
    made = Trainer(shape, how, Hardware(GPU, precision, graphs=False))
    networks = made._networks

    def captured(*args: Any) -> Tensor:
        with gpu.as_captured():
            return networks(*args)

    made._update = captured  # type: ignore[assignment]
    return made


def take(gpu: FakeCuda, made: Trainer, stream: Iterator[Tensor], number: int) -> Counter[str]:
    """Takes a step; returns its operations on the GPU."""
    before = gpu.operations.copy()
    with gpu.no_waits():
        row = made.step(number, next(stream))
    assert row.device == GPU and row.shape == (len(step.COLUMNS),) and row[:-1].isfinite().all()
    return gpu.operations - before


def real_pictures(how: Recipe) -> Iterator[Tensor]:
    stream = batches(faces(), how.batch_size, how.seed, 0, 4, GPU, mirror=how.mirror)
    next(stream)  # the array goes to the GPU
    return stream


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("norm", get_args(DiscriminatorNorm))
@pytest.mark.parametrize("loss", get_args(Loss))
def test_steps(
    gpu: FakeCuda, loss: Loss, norm: DiscriminatorNorm, architecture: Architecture, augment: bool, precision: Precision
) -> None:
    shape, how = settings(discriminator_norm=norm, architecture=architecture), recipe(loss=loss, augment=augment)
    made, stream = trainer(gpu, shape, how, precision), real_pictures(how)
    with_penalties, without = take(gpu, made, stream, 0), take(gpu, made, stream, 1)
    assert with_penalties.total() > without.total() > 100
    assert {value.device for value in made.average.state_dict().values()} == {GPU}


@pytest.mark.parametrize("precision", get_args(Precision))
def test_steps_with_a_coarse_discriminator_and_pixel_norm(gpu: FakeCuda, precision: Precision) -> None:
    shape = settings(generator_norm="pixel", coarse_share=0.3)
    made, stream = trainer(gpu, shape, recipe(loss="relativistic"), precision), real_pictures(recipe())
    assert take(gpu, made, stream, 0).total() > take(gpu, made, stream, 1).total() > 100


def test_a_step_after_a_resume(gpu: FakeCuda) -> None:
    before, after, stream = (
        trainer(gpu, settings(), recipe()),
        trainer(gpu, settings(), recipe()),
        real_pictures(recipe()),
    )
    take(gpu, before, stream, 0)
    state = before.state()
    assert {value.device for value in state.values()} == {CPU}
    after.load_state(state)
    take(gpu, after, stream, 1)


@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("free", [80 << 30, 0], ids=["on the GPU", "streamed"])
def test_batches(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, free: int, mirror: bool) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    pixels, seed = faces(), 1
    on_cpu = batches(pixels, BATCH, seed, 0, 8, CPU, mirror=mirror)
    on_gpu = batches(pixels, BATCH, seed, 0, 8, GPU, mirror=mirror)
    first = next(on_gpu)
    assert gpu.waits == ({UP: 1} if free else {})  # the whole array, once
    assert first.device == GPU and torch.equal(first.cpu(), next(on_cpu))
    with gpu.no_waits():
        rest = list(on_gpu)
    assert all(torch.equal(batch.cpu(), expected) for batch, expected in zip(rest, on_cpu, strict=True))


def test_sampling(gpu: FakeCuda) -> None:
    made = trainer(gpu, settings(), recipe())
    gpu.waits.clear()
    sampler = made.sampler(batches=3)  # refreshes the statistics of BatchNorm
    assert gpu.waits == {UP: 3}  # the latents of each batch
    latents = draw_latents(made.settings, 10, random_state(1, "grid"))
    assert generate(sampler, latents, batch_size=5).shape == (10, 32, 32, 3)
    assert gpu.waits == {UP: 5, DOWN: 2}  # and the pictures

    drawn = [draw_latents(made.settings, BATCH_NORM_BATCH, random_state(1, "x", number, GPU)) for number in range(2)]
    with gpu.no_waits():
        estimate_batch_norm(sampler, drawn)


def test_averaging(gpu: FakeCuda) -> None:
    average, generator = (build(settings(), random_state(seed, "weights"))[0] for seed in (1, 2))
    expected, share = averaged_copy(average), torch.tensor(0.3)
    update_average(list(expected.parameters()), list(generator.parameters()), share)
    average, generator, share = average.to(GPU), generator.to(GPU), share.to(GPU)
    with gpu.no_waits():
        update_average(list(average.parameters()), list(generator.parameters()), share)
    assert len(gpu.operations) == gpu.operations.total() == 3  # on lists of all weights
    for name, value in average.cpu().named_parameters():
        torch.testing.assert_close(value, expected.get_parameter(name))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite0_dithered", "inception"])
def test_feature_networks(gpu: FakeCuda, name: Any, inception_weights: Path) -> None:
    file = inception_weights if name == "inception" else weights.packaged()
    network = feature_networks.load(name, file, GPU)
    pictures = torch.from_numpy(faces(2))
    gpu.waits.clear()
    features = network.features(pictures)
    assert features.device == GPU and features.shape == (2, network.dimensions)
    assert gpu.waits == {UP: 2 if network.dithering_levels else 1}  # the pictures, and their noise
    on_gpu = pictures.to(GPU)
    if not network.dithering_levels:
        with gpu.no_waits():
            network.features(on_gpu)


def test_collecting_features_waits_once_a_batch(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "BATCH", 2)
    network = feature_networks.load("efficientnet_lite0", weights.packaged(), GPU)
    counts = []
    for count in (4, 6):
        pictures = torch.zeros(count, 8, 8, 3, dtype=torch.uint8, device=GPU)
        gpu.waits.clear()
        collecting.collect(
            network, partial(torch.Tensor.__getitem__, pictures), count, "pictures", np.empty((count, 1280), np.float32)
        )
        counts.append(gpu.waits.copy())
    assert counts[1] - counts[0] == {DOWN: 1}


def test_scores_and_copies(gpu: FakeCuda) -> None:
    real, made = (np.random.default_rng(seed).normal(size=(20, 4)).astype(np.float32) for seed in (1, 2))
    assert neighbours.scores(real, made, GPU) == neighbours.scores(real, made, CPU)
    known, some = faces(40), collecting.of_faces(faces(10))
    training = small_pictures.small_pictures(collecting.of_faces(known), len(known), GPU)
    rows, apart = small_pictures.nearest_faces(some, 10, training, 2, GPU)
    assert rows[:, 0].tolist() == list(range(10)) and apart[:, 0] == pytest.approx(0, abs=1e-3)
    assert gpu.operations.total() > 100


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_a_training_waits_at_its_ends_only(
    gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, graphs: bool
) -> None:
    monkeypatch.setattr(loop, "FINAL_BATCHES", 1)

    def waits(steps: int) -> Counter[str]:
        gpu.waits.clear()
        store = CheckpointStore(tmp_path / str(steps), "x")
        with store.locked():
            how = recipe(epochs=1, augment=True, mirror=True)
            machine = Hardware(GPU, "bf16", graphs=graphs)
            result = train(faces(steps * BATCH), settings(), how, machine, store, Nobody(), lambda: None, 1e3, 10**6)
        assert len(result.history) == steps
        return gpu.waits.copy()

    few, many = waits(4), waits(28)  # both kinds of step are captured in the latter
    assert few == many and few.total() > 10


Plant = Callable[[pytest.MonkeyPatch], None]
MISTAKES: dict[str, tuple[str, Plant]] = {}


def mistake(message: str) -> Callable[[Plant], Plant]:
    """Registers a function that puts a mistake into the step, which ends in `message`."""

    def register(plant: Plant) -> Plant:
        MISTAKES[plant.__name__] = message, plant
        return plant

    return register


def on_loss(patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    real = losses.generator_loss
    patch.setattr(losses, "generator_loss", lambda *args: change(real(*args)))


def on_pictures(patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    patch.setattr(step, "diff_augment", lambda pictures, *args: change(pictures))


@mistake("_local_scalar_dense: the host waits")
def the_value_of_the_loss(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss / float(loss.detach()))


@mistake("_local_scalar_dense: the host waits")
def a_branch_on_the_loss(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss if loss > 10 else loss * 2)


@mistake("_local_scalar_dense: the host waits")
def the_share_of_the_average_as_a_number(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "update_average", lambda averages, weights, share: share.item())


@mistake("copy to the CPU: the host waits")
def a_loss_on_the_cpu(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss.cpu())


@mistake("numpy: can't convert a tensor on the GPU")
def a_conversion_to_numpy(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss * float(loss.detach().numpy()))


@mistake("tolist: the host waits")
def a_list_of_values(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss * float(str(loss.tolist())))


@mistake("synchronize: the host waits")
def a_clock_in_the_step(patch: pytest.MonkeyPatch) -> None:
    def timed(loss: Tensor) -> Tensor:
        torch.cuda.synchronize()
        return loss

    on_loss(patch, timed)


@mistake("mixes devices")
def latents_of_the_cpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "random_state", lambda *args: random_state(*args[:3]))


@mistake("a generator of cpu draws for cuda:0")
def a_generator_of_the_cpu(patch: pytest.MonkeyPatch) -> None:
    on_pictures(patch, lambda pictures: diff_augment(pictures, torch.Generator()))


@mistake("add: mixes devices")
def a_constant_of_the_cpu(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss + torch.tensor(0.0))


@mistake("add: mixes devices")
def noise_of_the_cpu(patch: pytest.MonkeyPatch) -> None:
    on_pictures(patch, lambda pictures: pictures + torch.randn(pictures.shape))


@mistake("copy to the GPU: the host waits")
def a_constant_copied_at_each_step(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss + torch.tensor(0.0, device=GPU))


@mistake("copy to the GPU: a graph would repeat it")
def a_copy_in_the_graph(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss + torch.zeros(()).pin_memory().to(GPU, non_blocking=True))


@mistake("copy to the GPU: the host waits")
def memory_that_is_not_pinned(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tensor, "pin_memory", lambda self: self)


@mistake("index by a mask: the host waits")
def a_mask_as_an_index(patch: pytest.MonkeyPatch) -> None:
    on_pictures(patch, lambda pictures: pictures[pictures.mean(dim=(1, 2, 3)) > -2])


@mistake("nonzero: the host waits")
def the_places_of_values(patch: pytest.MonkeyPatch) -> None:
    on_loss(patch, lambda loss: loss * len(loss.nonzero()))


@mistake("grid_sampler_2d_backward: has no deterministic implementation")
def a_rotation(patch: pytest.MonkeyPatch) -> None:
    def rotated(pictures: Tensor) -> Tensor:
        grid = affine_grid(torch.zeros(len(pictures), 2, 3, device=GPU), list(pictures.shape), align_corners=False)
        return grid_sample(pictures.float(), grid, align_corners=False)

    on_pictures(patch, rotated)


@mistake("reflection_pad2d_backward: has no deterministic implementation")
def a_reflected_border(patch: pytest.MonkeyPatch) -> None:
    on_pictures(patch, lambda pictures: pad(pictures, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1])


@mistake("upsample_bilinear2d_backward: has no deterministic implementation")
def a_zoom(patch: pytest.MonkeyPatch) -> None:
    zoom = torch.ops.aten.upsample_bilinear2d
    on_pictures(patch, lambda pictures: zoom(pictures, pictures.shape[2:], False))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_caught_by_name(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    message, plant = MISTAKES[name]
    how = recipe(augment=True)
    made, stream = trainer(gpu, settings(), how), real_pictures(how)
    take(gpu, made, stream, 0)  # without the mistake
    plant(monkeypatch)
    with pytest.raises(Mistake, match=message):
        take(gpu, made, stream, 8)
