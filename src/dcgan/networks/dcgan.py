"""Generator and discriminator (Radford et al. 2015, arXiv 1511.06434), in two families.

`conv` is fully convolutional, with the layers and the layer names (`main.0.weight`, ...) of the PyTorch DCGAN tutorial.
`linear` starts the generator and ends the discriminator with a linear layer. The number of layers grows with
log2(image_size). A feature map of resolution r has width * min(8, image_size / (2 r)) channels, where width is `ngf` or
`ndf`. Two settings are of later papers: `generator_norm: pixel`, and the coarse discriminator beside the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from dcgan.networks.coarse import CoarseDiscriminator
from dcgan.networks.convolutions import DoublingConvTranspose2d, HalvingConv2d
from dcgan.networks.pixel_norm import PixelNorm
from dcgan.system.choices import Architecture, DiscriminatorNorm, GeneratorNorm, Latent

NEGATIVE_SLOPE = 0.2  # of the discriminator's LeakyReLU (Radford et al., section 4)
WEIGHT_STD = 0.02  # of the initial weights (Radford et al., section 4)


@dataclass(frozen=True)
class Settings:
    """Everything that is needed to rebuild both networks: the params.yaml keys of the same names."""

    architecture: Architecture = "conv"
    image_size: int = 64
    nc: int = 3
    nz: int = 100
    ngf: int = 64
    ndf: int = 64
    latent: Latent = "normal"
    generator_norm: GeneratorNorm = "batch"
    discriminator_norm: DiscriminatorNorm = "batch"
    coarse_share: float = 0.0


def widths(channels: int, image_size: int) -> list[int]:
    """Returns the channels of the feature maps of resolution 4, 8, ..., image_size / 2."""
    resolutions = [2**k for k in range(2, image_size.bit_length() - 1)]
    return [channels * min(8, image_size // (2 * r)) for r in resolutions]


class Generator(nn.Module):
    """Maps latents (N, nz) or (N, nz, 1, 1) to pictures (N, nc, image_size, image_size) in [-1, 1]."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        channels = widths(settings.ngf, settings.image_size)
        norm = PixelNorm if settings.generator_norm == "pixel" else nn.BatchNorm2d
        layers: list[nn.Module] = []
        if settings.architecture == "conv":
            layers += [nn.ConvTranspose2d(settings.nz, channels[0], 4, 1, 0, bias=False)]
            layers += [norm(channels[0]), nn.ReLU(inplace=True)]
        else:
            self.project = nn.Linear(settings.nz, channels[0] * 4 * 4)
        for before, after in pairwise(channels):
            layers += [DoublingConvTranspose2d(before, after)]
            layers += [norm(after), nn.ReLU(inplace=True)]
        layers += [DoublingConvTranspose2d(channels[-1], settings.nc), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        if self.settings.architecture == "conv":
            return self.main(latents.flatten(1).unflatten(1, (-1, 1, 1)))
        features = self.project(latents.flatten(1)).unflatten(1, (-1, 4, 4))
        return self.main(features.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """Maps pictures (N, nc, image_size, image_size) in [-1, 1] to logits (N,), without a sigmoid.

    With a `coarse_share` above 0 these are (2 N,), two for each picture: that of its details, and the coarse one's.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
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
        self.coarse: CoarseDiscriminator | None = None
        if settings.coarse_share:
            self.coarse = CoarseDiscriminator(settings.nc, settings.image_size, settings.coarse_share, NEGATIVE_SLOPE)

    def forward(self, pictures: Tensor) -> Tensor:
        if self.coarse is not None:
            return torch.stack([self.main(pictures).flatten(), self.coarse(pictures)], dim=1).flatten()
        if self.settings.discriminator_norm != "spectral":
            return self.main(pictures).flatten()
        with parametrize.cached():
            # The power iteration in float32: on a GPU, autocast would do its matrix-vector products in bf16.
            with torch.autocast(pictures.device.type, enabled=False):
                for layer in self.main:
                    getattr(layer, "weight", None)  # computed here, and used by the layer in the next line
            return self.main(pictures).flatten()


def initialise(network: nn.Module, random: torch.Generator) -> None:
    """Draws weights from N(0, 0.02), BatchNorm's from N(1, 0.02), and sets biases to 0 (Radford et al., section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            parametrised = getattr(module, "parametrizations", None)
            weight = parametrised.weight.original if parametrised else module.weight
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            nn.init.normal_(weight, mean, WEIGHT_STD, generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build(settings: Settings, random: torch.Generator) -> tuple[Generator, Discriminator]:
    """Returns a new generator and discriminator with initialised weights, on the CPU."""
    with torch.random.fork_rng(devices=[]):  # spectral_norm draws its vectors from the global random state
        torch.manual_seed(random.initial_seed())
        generator, discriminator = Generator(settings), Discriminator(settings)
    initialise(generator, random)
    initialise(discriminator, random)
    return generator, discriminator
