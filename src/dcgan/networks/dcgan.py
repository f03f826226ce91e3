"""Generator and discriminator (Radford et al. 2015, arXiv 1511.06434), in two families.

`conv` is fully convolutional, as in the PyTorch DCGAN tutorial, and names its layers alike
(`main.0.weight`, ...). `linear` begins the generator and ends the discriminator with a linear layer.
Networks grow and shrink with log2(image_size): a feature map of resolution r has
width * min(8, image_size / (2 r)) channels.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dcgan.networks.convolutions import DoublingConvTranspose2d, HalvingConv2d
from dcgan.system.errors import UserError
from dcgan.system.files import atomic

NEGATIVE_SLOPE = 0.2  # of the discriminator's LeakyReLU (Radford et al., section 4)
WEIGHT_STD = 0.02  # of all weights at the start (ditto)


@dataclass(frozen=True)
class Settings:
    """All that is needed to build both networks again; the keys of params.yaml of the same names."""

    architecture: Literal["conv", "linear"] = "conv"
    image_size: int = 64
    nc: int = 3
    nz: int = 100
    ngf: int = 64
    ndf: int = 64
    latent: Literal["normal", "uniform"] = "normal"
    discriminator_norm: Literal["batch", "none", "spectral"] = "batch"


def widths(channels: int, image_size: int) -> list[int]:
    """Channels of the feature maps of 4x4, 8x8, ... to image_size / 2."""
    resolutions = [2**k for k in range(2, image_size.bit_length() - 1)]
    return [channels * min(8, image_size // (2 * r)) for r in resolutions]


class Generator(nn.Module):
    """Latents, (N, nz) or (N, nz, 1, 1), to pictures (N, nc, image_size, image_size) in [-1, 1]."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        channels = widths(settings.ngf, settings.image_size)
        layers: list[nn.Module] = []
        if settings.architecture == "conv":
            layers += [nn.ConvTranspose2d(settings.nz, channels[0], 4, 1, 0, bias=False)]
            layers += [nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)]
        else:
            self.project = nn.Linear(settings.nz, channels[0] * 4 * 4)
        for before, after in pairwise(channels):
            layers += [DoublingConvTranspose2d(before, after)]
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        layers += [DoublingConvTranspose2d(channels[-1], settings.nc), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        if self.settings.architecture == "conv":
            return self.main(latents.flatten(1).unflatten(1, (-1, 1, 1)))
        features = self.project(latents.flatten(1)).unflatten(1, (-1, 4, 4))
        return self.main(features.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """Pictures (N, nc, image_size, image_size) in [-1, 1] to logits (N,); there is no sigmoid."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        channels = widths(settings.ndf, settings.image_size)[::-1]

        def norm(layer: nn.Module) -> nn.Module:
            return spectral_norm(layer) if settings.discriminator_norm == "spectral" else layer

        layers: list[nn.Module] = [norm(HalvingConv2d(settings.nc, channels[0]))]
        layers += [nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)]
        for before, after in pairwise(channels):
            layers += [norm(HalvingConv2d(before, after))]
            layers += [nn.BatchNorm2d(after)] if settings.discriminator_norm == "batch" else []
            layers += [nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)]
        if settings.architecture == "conv":
            layers += [norm(nn.Conv2d(channels[-1], 1, 4, 1, 0, bias=False))]
        else:
            layers += [nn.Flatten(), norm(nn.Linear(channels[-1] * 4 * 4, 1))]
        self.main = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.main(pictures).flatten()


def initialise(network: nn.Module, random: torch.Generator) -> None:
    """Draws the weights: N(0, 0.02), those of BatchNorm N(1, 0.02); biases 0 (Radford et al., section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            parametrised = getattr(module, "parametrizations", None)
            weight = parametrised.weight.original if parametrised else module.weight
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            nn.init.normal_(weight, mean, WEIGHT_STD, generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build(settings: Settings, random: torch.Generator) -> tuple[Generator, Discriminator]:
    """Both networks on the CPU with fresh weights."""
    with torch.random.fork_rng(devices=[]):  # spectral_norm draws its vectors from the global state
        torch.manual_seed(random.initial_seed())
        generator, discriminator = Generator(settings), Discriminator(settings)
    initialise(generator, random)
    initialise(discriminator, random)
    return generator, discriminator


@torch.no_grad()
def estimate_batch_norm(generator: Generator, latents: Iterable[Tensor]) -> None:
    """Sets the BatchNorm statistics of `generator` to those over batches of latents, in float32.

    The running statistics of a training do not fit averaged weights, and lag behind any others.
    """
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    generator.train()
    for batch in latents:
        generator(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()


def save(path: Path, network: nn.Module, settings: Settings, more: Mapping[str, Any]) -> None:
    """Writes the weights as safetensors; its metadata holds the settings, and `more` beside them.

    The metadata is one JSON string, since safetensors writes several keys in no fixed order.
    """
    metadata = {"dcgan": json.dumps({"settings": asdict(settings), **more}, sort_keys=True)}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata)


def read_metadata(path: Path) -> dict[str, Any]:
    """What `save` wrote beside the weights: settings, and more.

    Raises:
        UserError: the file is not one of this project's.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, Any] = json.loads(file.metadata()["dcgan"])
            return metadata
    except Exception as error:
        raise UserError(f"{path}: it is not a network that this project saved ({type(error).__name__}).") from None


def load_generator(path: Path) -> Generator:
    """The generator of a file that `save` wrote, on the CPU, in evaluation mode.

    Raises:
        UserError: the file holds no generator, or is damaged.
    """
    generator = Generator(Settings(**read_metadata(path)["settings"]))
    try:
        with safe_open(path, "pt") as file:
            generator.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:
        raise UserError(f"{path}: it holds no generator that can be read ({type(error).__name__}).") from None
    return generator.eval()


def load_example_checkpoint(path: Path, network: Generator | Discriminator) -> None:
    """Loads a checkpoint of the PyTorch DCGAN example (`netG_epoch_24.pth`) into a `conv` network of 64x64.

    The keys are `main.0.weight`, ..., with or without the prefix `module.` of a DataParallel. The file is
    read with `weights_only=True`, so that it cannot run code.

    Raises:
        UserError: the keys or the shapes are not those of `network`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: it does not fit this {type(network).__name__.lower()}: {reason}.") from None


def averaged_copy(generator: Generator) -> Generator:
    """A copy of the generator that holds running averages of its weights and takes no gradient."""
    return copy.deepcopy(generator).requires_grad_(False)


@torch.no_grad()
def update_average(average: Generator, generator: Generator, decay: float) -> None:
    """average <- decay * average + (1 - decay) * generator, weights only."""
    torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)
