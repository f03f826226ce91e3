"""The schema of params.yaml: type, range, unit and meaning of every hyperparameter.

Each pipeline stage has a section. `Params` combines all sections.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dcgan.system.choices import (
    MOST_NGF,
    MOST_NZ,
    Architecture,
    DiscriminatorNorm,
    FidNetwork,
    GeneratorNorm,
    Keep,
    Latent,
    Loss,
)

# Each module in data/sources is a data set. A type checker cannot list the folder.
DATASETS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("data/sources/[!_]*.py")))
if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[DATASETS]
Split = Literal["train", "valid", "test", "all"]
Precision = Literal["auto", "fp32", "bf16"]
T = TypeVar("T")


class Section(BaseModel):
    """A group of parameters. Unknown keys, NaN and infinity are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_yaml_means_it(cls, value: Any, info: Any) -> Any:
        if value == "":  # `dvc exp run -S crop_size=` writes an empty string
            return None
        # Pydantic would read a boolean as 0 or 1; in YAML, it is far more often a mistake than a number.
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("a boolean is not a number")
        return value

    def part(self, kind: type[T]) -> T:
        """Returns an instance of the dataclass `kind`, whose fields are keys of this section."""
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


class DownloadParams(Section):
    dataset: Dataset = Field(description="source of the pictures")
    dataset_size: int | None = Field(
        ge=1, le=10_000_000, description="avatars: number to draw; other data sets: maximum number of pictures"
    )
    dataset_seed: int = Field(ge=0, lt=2**32, description="seed of the drawn avatars, independent of `seed`")


class InventoryParams(Section):
    dataset: Dataset


class CropParams(Section):
    crop_size: int | None = Field(
        ge=8, le=16_384, description="side of the centred square in pixels; empty: the largest"
    )
    image_size: Literal[32, 64, 128, 256] = Field(description="pixels per side after resizing")
    nc: Literal[1, 3] = Field(description="colour channels")
    max_bad_fraction: float = Field(ge=0, le=1, description="share of unusable pictures above which the crop stops")
    refuse_enlarged: bool = Field(description="leave out pictures that are smaller than image_size")


class NetworkParams(Section):
    architecture: Architecture = Field(description="conv: paper, PyTorch tutorial; linear: a linear layer at each end")
    image_size: Literal[32, 64, 128, 256]
    nc: Literal[1, 3]
    nz: int = Field(ge=1, le=MOST_NZ, description="size of the latent vector")
    ngf: int = Field(ge=1, le=MOST_NGF, description="channels of the generator at half the resolution")
    ndf: int = Field(ge=1, le=MOST_NGF, description="channels of the discriminator at half the resolution")
    latent: Latent = Field(description="distribution of the latents: N(0, 1), or uniform on [-1, 1]")
    generator_norm: GeneratorNorm = Field(description="normalisation in the generator")
    discriminator_norm: DiscriminatorNorm = Field(description="normalisation in the discriminator")
    coarse_share: float = Field(
        ge=0, le=1, description="share of a second, coarse discriminator in what the generator learns from; 0: none"
    )


class TrainParams(NetworkParams):
    train_split: Literal["train", "all"] = Field(description="split to train on")
    seed: int = Field(ge=0, lt=2**32, description="seed of weights, latents, order of the pictures and sampling")
    epochs: int = Field(ge=1, le=100_000, description="passes over the pictures")
    batch_size: int = Field(ge=2, le=65_536, description="pictures per step, over all ranks")
    lr: float = Field(gt=0, le=1, description="Adam's learning rate")
    lr_discriminator: float | None = Field(
        gt=0, le=1, description="learning rate of the discriminator; empty: same as lr"
    )
    lr_warmup_kimg: float = Field(
        ge=0, le=1e6, description="thousand pictures over which the learning rates rise from 0; 0: none"
    )
    lr_decay: float = Field(
        ge=0, le=1, description="share of the learning rates that is left at the end, along half a cosine; 1: constant"
    )
    beta1: float = Field(ge=0, lt=1, description="Adam's decay rate of the first moment")
    beta2: float = Field(ge=0, lt=1, description="Adam's decay rate of the second moment")
    loss: Loss = Field(description="adversarial loss")
    label_smoothing: float = Field(
        ge=0, le=0.5, description="subtracted from the real label, in the discriminator only"
    )
    r1_gamma: float = Field(ge=0, le=10_000, description="weight of the R1 and R2 gradient penalties; 0: none")
    r1_gamma_end: float | None = Field(
        ge=0, le=10_000, description="r1_gamma at the end, along half a cosine; empty: same as r1_gamma"
    )
    r1_interval: int = Field(
        ge=1, le=1000, description="steps between two that compute the penalties, which are scaled up as much"
    )
    ema_halflife_kimg: float = Field(
        ge=0, le=1e6, description="half-life of the averaged weights, in thousand pictures; 0: none"
    )
    ema_rampup: float = Field(
        gt=0, le=1, description="largest half-life of the averaged weights, as a share of the pictures seen so far"
    )
    mirror: bool = Field(description="horizontal flips: each picture of each step, with probability 1/2")
    augment: bool = Field(description="DiffAugment: colour, translation, cutout")
    ngpu: Literal["auto", 0, 1, 2, 3, 4, 5, 6, 7, 8] = Field(description="GPUs per machine; 0: the CPU")
    ranks: int | None = Field(
        ge=1, le=1024, description="processes that train together, on all machines; empty: one for each of ngpu GPUs"
    )
    precision: Precision = Field(description="arithmetic of the forward and backward passes")
    distance_kimg: float = Field(
        ge=0, le=1e6, description="thousand pictures between quick Frechet distances during training; 0: none"
    )
    keep: Keep = Field(description="generator to keep: the last, or the one with the smallest quick distance")

    def number_of_ranks(self) -> int:
        """The number of processes that train together."""
        return self.ranks or (1 if self.ngpu == "auto" else max(1, self.ngpu))


class SampleParams(Section):
    seed: int = Field(ge=0, lt=2**32)


class AttributesParams(Section):
    seed: int = Field(ge=0, lt=2**32)


class WeightsParams(Section):
    fid_network: FidNetwork = Field(description="feature network of the Frechet distance")


class ReferenceParams(WeightsParams):
    fid_compile: bool = Field(description="compile the network on a CPU, for many pictures; needs a C++ compiler")


class EvaluateParams(Section):
    seed: int = Field(ge=0, lt=2**32)
    fid_network: FidNetwork
    fid_compile: bool
    fid_samples: int = Field(ge=2, le=10_000_000, description="pictures generated for the distance")
    fid_repeats: int = Field(ge=1, le=100, description="draws of fid_samples pictures, for the spread of the distance")
    fid_split: Split = Field(description="split whose statistics are the reference")


class ReportParams(DownloadParams, CropParams, TrainParams, EvaluateParams):
    """All parameters, which the report lists."""


class Params(ReportParams):
    """All parameters of params.yaml."""

    def section(self, kind: type[SectionT]) -> SectionT:
        """Returns the section `kind`, which holds only its own keys."""
        return kind(**{name: getattr(self, name) for name in kind.model_fields})


SectionT = TypeVar("SectionT", bound=Section)
