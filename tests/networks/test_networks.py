"""Both families of networks: shapes, their published forms, initial weights, BatchNorm statistics, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tutorial import TutorialDiscriminator, TutorialGenerator, tutorial

from dcgan import networks
from dcgan.networks import Discriminator, Generator, Settings, dcgan
from dcgan.sampling import random_state
from dcgan.system.errors import UserError
from dcgan.system.metadata import read_metadata

Architecture = Literal["conv", "linear"]
Norm = Literal["batch", "none", "spectral"]
ARCHITECTURES: tuple[Architecture, ...] = ("conv", "linear")
NORMS: tuple[Norm, ...] = ("batch", "none", "spectral")
SMALL = Settings(image_size=32, nz=6, ngf=4, ndf=4)


def small(seed: int = 0, **changes: Any) -> tuple[Generator, Discriminator]:
    return networks.build(Settings(**{**SMALL.__dict__, **changes}), random_state(seed, "weights"))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Shapes.


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
def test_pictures_are_of_the_size_asked_for_and_each_gets_one_logit(
    image_size: int, architecture: Architecture, nc: int
) -> None:
    generator, discriminator = small(image_size=image_size, architecture=architecture, nc=nc)
    with torch.no_grad():
        pictures = generator(normal(2, 6))
        assert pictures.shape == (2, nc, image_size, image_size)
        assert pictures.abs().max() <= 1 and pictures.std() > 0
        logits = discriminator(pictures)
        assert logits.shape == (2,) and torch.isfinite(logits).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_latents_may_have_the_examples_shape(architecture: Architecture) -> None:
    generator, _ = small(architecture=architecture)
    latents = normal(3, 6)
    with torch.no_grad():
        assert torch.equal(generator.eval()(latents), generator(latents.reshape(3, 6, 1, 1)))


def output_channels(network: nn.Module) -> list[int]:
    return [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize(
    ("image_size", "multiples"),
    [(32, [4, 2, 1]), (64, [8, 4, 2, 1]), (128, [8, 8, 4, 2, 1]), (256, [8, 8, 8, 4, 2, 1])],
)
def test_channels_double_with_each_halving_up_to_eight_times(image_size: int, multiples: list[int]) -> None:
    generator, discriminator = small(image_size=image_size)
    assert dcgan.widths(4, image_size) == [4 * m for m in multiples]
    assert output_channels(generator) == [*(4 * m for m in multiples), 3]
    assert output_channels(discriminator) == [*(4 * m for m in reversed(multiples)), 1]


def test_the_paper_has_1024_channels_at_4x4() -> None:
    assert dcgan.widths(128, 64) == [1024, 512, 256, 128]


def kind(layer: nn.Module) -> type:
    """Torch's class of a layer, which this project's convolutions are too."""
    return next(c for c in type(layer).__mro__ if c.__module__.startswith("torch."))


# The PyTorch DCGAN tutorial.


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_the_conv_networks_at_64_have_the_tutorials_keys_and_shapes_at_full_width() -> None:
    with torch.device("meta"):
        ours = Generator(Settings()), Discriminator(Settings())
        theirs = TutorialGenerator(100, 64, 3), TutorialDiscriminator(3, 64)
        for a, b in zip(ours, theirs, strict=True):
            assert list(a.state_dict()) == list(b.state_dict())
            assert shapes(a.state_dict()) == shapes(b.state_dict())
    assert sum(p.numel() for p in ours[0].parameters()) == 3_576_704
    assert sum(p.numel() for p in ours[1].parameters()) == 2_765_568


@pytest.mark.parametrize("training", [False, True])
def test_the_conv_networks_at_64_compute_what_the_tutorials_compute(training: bool) -> None:
    their_generator, their_discriminator = (network.train(training) for network in tutorial())
    generator, discriminator = (network.train(training) for network in small(image_size=64))
    generator.load_state_dict(their_generator.state_dict())
    discriminator.load_state_dict(their_discriminator.state_dict())
    latents = normal(3, 6, 1, 1)
    with torch.no_grad():
        pictures = their_generator(latents)
        torch.testing.assert_close(generator(latents), pictures)
        torch.testing.assert_close(discriminator(pictures).sigmoid(), their_discriminator(pictures).view(-1))


# The projection DCGAN: system A of SEEDS.md.


def test_the_linear_generator_is_system_a() -> None:
    generator, _ = networks.build(Settings(architecture="linear", nz=100, ngf=8), random_state(0, "weights"))
    c, state = 8, generator.state_dict()
    assert shapes({k: v for k, v in state.items() if k.startswith("project")}) == {
        "project.weight": (8 * c * 4 * 4, 100),
        "project.bias": (8 * c * 4 * 4,),
    }
    kinds = [kind(layer) for layer in generator.main]
    block = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [*block * 3, nn.ConvTranspose2d, nn.Tanh]  # nothing before the first of them
    transposed = [layer for layer in generator.main if isinstance(layer, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in transposed] == [(8 * c, 4 * c), (4 * c, 2 * c), (2 * c, c), (c, 3)]
    for layer in transposed:
        assert layer.bias is None and (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))


def test_the_linear_discriminator_is_system_a() -> None:
    _, discriminator = networks.build(Settings(architecture="linear", ndf=8), random_state(0, "weights"))
    c = 8
    block = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert [kind(m) for m in discriminator.main] == [nn.Conv2d, nn.LeakyReLU, *block * 3, nn.Flatten, nn.Linear]
    convolutions = [layer for layer in discriminator.main if isinstance(layer, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [
        (3, c),
        (c, 2 * c),
        (2 * c, 4 * c),
        (4 * c, 8 * c),
    ]
    for layer in convolutions:
        assert layer.bias is None and (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
    assert all(m.negative_slope == 0.2 for m in discriminator.main if isinstance(m, nn.LeakyReLU))
    last = discriminator.main[-1]
    assert isinstance(last, nn.Linear) and last.weight.shape == (1, 8 * c * 4 * 4) and last.bias.shape == (1,)


def test_the_linear_generator_computes_what_system_a_computes() -> None:
    """An independent forward pass, from the same weights."""
    generator = small(image_size=64, architecture="linear")[0].eval()
    state, latents = generator.state_dict(), normal(2, 6)
    x = (latents @ state["project.weight"].T + state["project.bias"]).reshape(2, 32, 4, 4)
    for index in (0, 3, 6):
        x = nn.functional.conv_transpose2d(x, state[f"main.{index}.weight"], stride=2, padding=1)
        scale = state[f"main.{index + 1}.weight"] / (1 + 1e-5) ** 0.5  # fresh statistics: mean 0, variance 1
        x = (x * scale.reshape(1, -1, 1, 1)).clamp(min=0)
    expected = nn.functional.conv_transpose2d(x, state["main.9.weight"], stride=2, padding=1).tanh()
    with torch.no_grad():
        torch.testing.assert_close(generator(latents), expected)


# Weights at the start.


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMS)
def test_weights_start_as_the_paper_says(architecture: Architecture, norm: Norm) -> None:
    for network in small(architecture=architecture, discriminator_norm=norm, ngf=16, ndf=16):
        batch_norms = {name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
        weights, scales = [], []
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif name.rpartition(".")[0] in batch_norms:
                scales.append(parameter.flatten())
            else:
                weights.append(parameter.flatten())
        for values, mean in ((weights, 0.0), (scales, 1.0)):
            if values:
                flat = torch.cat(values).detach()
                error = 5 * 0.02 / len(flat) ** 0.5  # five standard errors
                assert flat.mean().item() == pytest.approx(mean, abs=error)
                assert flat.std().item() == pytest.approx(0.02, abs=error)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMS)
def test_weights_depend_on_the_seed_alone(architecture: Architecture, norm: Norm) -> None:
    first = small(1, architecture=architecture, discriminator_norm=norm)
    torch.rand(7)  # whatever else was drawn
    state = torch.get_rng_state()
    second = small(1, architecture=architecture, discriminator_norm=norm)
    assert torch.equal(torch.get_rng_state(), state)
    third = small(2, architecture=architecture, discriminator_norm=norm)
    for a, b, c in zip(first, second, third, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
        assert not any(
            torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True) if x.any() or y.any()
        )


# Normalisation in the discriminator.


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("norm", "batch_norms", "spectral"), [("batch", 2, 0), ("none", 0, 0), ("spectral", 0, 4)])
def test_the_discriminator_has_the_normalisation_asked_for(
    architecture: Architecture, norm: Norm, batch_norms: int, spectral: int
) -> None:
    _, discriminator = small(architecture=architecture, discriminator_norm=norm)
    modules = list(discriminator.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in modules) == batch_norms
    assert sum(nn.utils.parametrize.is_parametrized(m) for m in modules) == spectral
    assert not isinstance(discriminator.main[1], nn.BatchNorm2d)  # never after the first


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_spectral_norm_makes_the_largest_singular_value_one(architecture: Architecture) -> None:
    _, discriminator = small(architecture=architecture, discriminator_norm="spectral")
    pictures = normal(1, 3, 32, 32)
    with torch.no_grad():
        for _ in range(25):  # each does one step of the power iteration
            discriminator(pictures)
        layers = [m for m in discriminator.main if isinstance(m, nn.Conv2d | nn.Linear)]
        for layer in layers:
            largest = torch.linalg.svdvals(layer.weight.flatten(1))[0].item()
            assert largest == pytest.approx(1.0, abs=0.02)


# BatchNorm statistics.


def statistics(generator: Generator) -> dict[str, Tensor]:
    return {k: v for k, v in generator.state_dict().items() if "running" in k}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_batches_give_the_statistics_of_one(architecture: Architecture) -> None:
    generator, _ = small(architecture=architecture)
    latents = normal(16, 6)
    networks.estimate_batch_norm(generator, [latents])
    once = {name: value.clone() for name, value in statistics(generator).items()}
    networks.estimate_batch_norm(generator, [latents] * 5)
    for name, value in statistics(generator).items():
        torch.testing.assert_close(value, once[name], rtol=1e-5, atol=1e-7)
    assert not generator.training


def test_the_first_layers_statistics_are_those_of_its_inputs() -> None:
    """Equal-sized batches: their mean is the mean of all; the variance is the mean of the unbiased ones."""
    generator, _ = small()
    batches = [normal(32, 6, seed=i) for i in range(4)]
    with torch.no_grad():
        inputs = [generator.main[0](batch.reshape(-1, 6, 1, 1)) for batch in batches]
    networks.estimate_batch_norm(generator, batches)
    norm = generator.main[1]
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = norm.running_mean, norm.running_var
    torch.testing.assert_close(mean, torch.cat(inputs).mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(variance, torch.stack([x.var(dim=(0, 2, 3)) for x in inputs]).mean(dim=0))


def test_old_statistics_are_forgotten_and_weights_and_momentum_are_left_alone() -> None:
    generator, _ = small()
    batches = [normal(16, 6, seed=i) for i in range(3)]
    networks.estimate_batch_norm(generator, batches)
    expected = {name: value.clone() for name, value in statistics(generator).items()}
    before = [p.clone() for p in generator.parameters()]
    for norm in (m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.momentum == 0.1
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.fill_(1e3)
        norm.running_var.fill_(1e3)
    networks.estimate_batch_norm(generator, iter(batches))
    assert all(torch.equal(value, expected[name]) for name, value in statistics(generator).items())
    assert all(torch.equal(a, b) for a, b in zip(before, generator.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in generator.parameters())


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1000), st.integers(2, 5), st.sampled_from(ARCHITECTURES))
def test_a_picture_does_not_depend_on_the_others_of_its_batch(seed: int, n: int, architecture: Architecture) -> None:
    generator, _ = small(seed, architecture=architecture)
    networks.estimate_batch_norm(generator, [normal(16, 6, seed=1)])
    latents = normal(n, 6, seed=seed)
    with torch.no_grad():
        together = generator(latents)
        for i in range(n):
            torch.testing.assert_close(generator(latents[i : i + 1])[0], together[i], rtol=1e-5, atol=1e-6)


# Averages.


@settings(deadline=None, max_examples=15)
@given(st.floats(0, 1))
def test_an_average_moves_by_one_minus_the_decay(decay: float) -> None:
    average, now = networks.averaged_copy(small(1)[0]), small(2)[0]
    assert not any(p.requires_grad for p in average.parameters())
    before = [p.clone() for p in average.parameters()]
    networks.update_average(list(average.parameters()), list(now.parameters()), torch.tensor(1 - decay))
    for old, new, result in zip(before, now.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(result, decay * old + (1 - decay) * new.detach(), rtol=1e-5, atol=1e-7)


def test_a_copy_for_averages_shares_no_memory() -> None:
    generator, _ = small()
    average = networks.averaged_copy(generator)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(1)
    assert not any(torch.equal(a, b) for a, b in zip(average.parameters(), generator.parameters(), strict=True))


# Files.


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_generator_comes_back_and_makes_the_same_pictures(
    tmp_path: Path, architecture: Architecture, image_size: int
) -> None:
    made = Settings(architecture, image_size, nc=1, nz=5, ngf=4, ndf=4, latent="uniform", discriminator_norm="spectral")
    generator, discriminator = networks.build(made, random_state(0, "weights"))
    networks.estimate_batch_norm(generator, [normal(16, 5)])
    path, again = tmp_path / "new" / "generator.safetensors", tmp_path / "again.safetensors"
    for target in (path, again):
        networks.save(target, generator, made, {"epochs": 3})
    assert path.read_bytes() == again.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    loaded = networks.load_generator(path)
    assert loaded.settings == made and not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(normal(4, 5)), generator(normal(4, 5)))
    assert read_metadata(path) == {"settings": made.__dict__, "epochs": 3}

    networks.save(again, discriminator, made, {})
    with safe_open(again, "pt") as file:
        assert set(file.keys()) == set(discriminator.state_dict())
        assert json.loads(file.metadata()["dcgan"])["settings"]["discriminator_norm"] == "spectral"


def test_the_memory_format_does_not_change_the_file(tmp_path: Path) -> None:
    generator, _ = small()
    networks.save(tmp_path / "a", generator, SMALL, {})
    networks.save(tmp_path / "b", generator.to(memory_format=torch.channels_last), SMALL, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"\x80\x02}q\x00.", b"not weights at all, but long enough"])
def test_a_foreign_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "generator.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"generator\.safetensors"):
        networks.load_generator(path)


def test_weights_without_our_metadata_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"generator\.safetensors"):
        read_metadata(path)


def test_the_power_iteration_is_done_outside_autocast() -> None:
    """Autocast on a GPU, unlike that on a CPU, would do matrix-vector products in bf16."""
    _, discriminator = small(discriminator_norm="spectral")
    in_autocast: list[bool] = []

    class Watched(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.mv:
                in_autocast.append(torch.is_autocast_enabled("cpu"))
            return function(*args, **(kwargs or {}))

    with Watched(), torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(normal(2, 3, 32, 32))
        assert torch.is_autocast_enabled("cpu")
    layers = sum("original" in name for name in discriminator.state_dict())
    assert in_autocast == [False] * 3 * layers  # two of a step of the iteration, one of the norm
    assert logits.dtype == torch.bfloat16 and logits.requires_grad
