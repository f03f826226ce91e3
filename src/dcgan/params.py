"""The schema of params.yaml: type, range, unit and meaning of every hyperparameter.

Each pipeline stage has a section. `Params` combines all sections and adds the checks across keys. A stage validates the
whole file and receives only its own section (`Params.section`).
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dcgan.system.choices import MOST_NGF, MOST_NZ, Architecture, DiscriminatorNorm, FidNetwork, Keep, Latent, Loss
from dcgan.system.errors import UserError
from dcgan.system.files import atomic

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
    discriminator_norm: DiscriminatorNorm = Field(description="normalisation in the discriminator")


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

# Data sets that the pipeline draws; dataset_size is the number of pictures to draw.
_DRAWN = {"avatars"}
# The shorter side of the pictures in pixels, for the data sets whose crop_size is checked against it.
_SOURCE_SIDE = {"avatars": 178, "celeba": 178, "cifar10": 32}


def avatars_splits(size: int) -> dict[str, int]:
    """Returns how many of `size` avatars are in each split: 80 %, 10 % and 10 %, about as in CelebA."""
    train, known = math.ceil(0.8 * size), math.ceil(0.9 * size)
    return {"train": train, "valid": known - train, "test": size - known, "all": size}


def validate(values: Any, file: str = "params.yaml") -> Params:
    """Checks `values`, the content of a parameter file, and returns the parameters.

    Args:
        file: name of the file, for the error message.

    Raises:
        UserError: the message has one line for each wrong key, with the key, its value and what is allowed. If only a
            combination of keys is wrong, it has one line about the combination.
    """
    if not isinstance(values, dict):
        raise UserError(f"{file}: it holds no keys; restore the committed file with `git checkout {file}`.")
    try:
        params = Params(**{str(key): value for key, value in values.items()})
    except ValidationError as error:
        raise UserError("\n".join(f"{file}: {_sentence(dict(e))}" for e in error.errors())) from None
    if problem := _impossible_combination(params):
        raise UserError(f"{file}: {problem}")
    return params


def _sentence(error: dict[str, Any]) -> str:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such parameter; remove it, or use one of {', '.join(Params.model_fields)}."
    allowed = _allowed(Params.model_fields[key])
    if error["type"] == "missing":
        return f"{key}: the key is missing; set it to {allowed}."
    if error["input"] is None:
        return f"{key}: it is empty; give {allowed}."
    return f"{key}: {error['input']!r} is not allowed; give {allowed}."


def _allowed(field: FieldInfo) -> str:
    """Describes in words which values a field accepts."""
    choices = get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ()
    kind = choices[0] if choices else field.annotation
    empty = ", or leave it empty" if choices else ""
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}{empty}"
    if kind is bool:
        return "true or false"
    low = next((f"of at least {m.ge}" for m in field.metadata if isinstance(m, Ge)), None) or next(
        f"above {m.gt}" for m in field.metadata if isinstance(m, Gt)
    )
    high = next((f"at most {m.le}" for m in field.metadata if isinstance(m, Le)), None) or next(
        f"below {m.lt}" for m in field.metadata if isinstance(m, Lt)
    )
    return f"a {'whole ' if kind is int else ''}number {low} and {high}{empty}"


def _impossible_combination(p: Params) -> str | None:
    if p.dataset in _DRAWN and p.dataset_size is None:
        return f"dataset_size: it is empty, but dataset: {p.dataset} needs the number of pictures to draw; give it."
    if p.dataset_size is not None and p.batch_size > p.dataset_size:
        return (
            f"batch_size: {p.batch_size} is more than dataset_size: {p.dataset_size}; "
            "lower batch_size or raise dataset_size."
        )
    if p.dataset == "avatars" and p.dataset_size is not None:
        counts = avatars_splits(p.dataset_size)
        if p.train_split == "train" and p.batch_size > counts["train"]:
            return (
                f"batch_size: {p.batch_size} is more than the {counts['train']} training pictures that "
                f"dataset_size: {p.dataset_size} gives; lower batch_size or raise dataset_size."
            )
        if counts[p.fid_split] < 2:
            return (
                f"fid_split: {p.fid_split} has {counts[p.fid_split]} pictures with dataset_size: {p.dataset_size}, but "
                "a distance needs 2; give train or all."
            )
    side = _SOURCE_SIDE.get(p.dataset)
    if side and p.crop_size and p.crop_size > side:
        return f"crop_size: {p.crop_size} is more than the {side} pixels of dataset: {p.dataset}; give at most {side}."
    square = p.crop_size or side
    if p.refuse_enlarged and square and square < p.image_size:
        return (
            f"refuse_enlarged: true leaves no picture, since their squares of {square} pixels are smaller than "
            f"image_size: {p.image_size}; give false."
        )
    count = p.number_of_ranks()
    if p.batch_size % count:
        return (
            f"batch_size: {p.batch_size} is not a multiple of {'ranks' if p.ranks else 'ngpu'}: {count}; "
            f"give a multiple of {count}, for example {-(-p.batch_size // count) * count}."
        )
    if p.ngpu != "auto" and p.ngpu and count % p.ngpu:
        return f"ranks: {count} is not a multiple of ngpu: {p.ngpu}, the GPUs of each machine; leave ranks empty."
    if p.keep == "best" and not p.distance_kimg:
        return "keep: best needs quick distances during training; give distance_kimg above 0, or keep: last."
    if p.r1_gamma_end and not p.r1_gamma:
        return (
            f"r1_gamma_end: {p.r1_gamma_end} needs penalties from the start; give r1_gamma above 0, or leave it empty."
        )
    if p.label_smoothing and p.loss not in ("bce", "minimax", "lsgan"):
        return (
            f"label_smoothing: {p.label_smoothing} cannot be used with loss: {p.loss}, which has no labels; "
            "give 0, or loss: bce, minimax or lsgan."
        )
    return None


def _yaml() -> YAML:
    # DVC also uses ruamel.yaml for params.yaml, so the same text has the same meaning here and in DVC.
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", ""))
    return yaml


def _read(path: Path) -> Any:
    try:
        return _parse(path.read_text(), path.name)
    except FileNotFoundError:
        raise UserError(f"{path.name}: there is no such file; restore it with `git checkout {path.name}`.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: it is not valid YAML: {error}; correct the file.") from None


def _parse(text: str, file: str) -> Any:
    try:
        return _yaml().load(text)
    except (YAMLError, ValueError) as error:  # ValueError: an invalid date or number
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise UserError(f"{file}: it is not valid YAML{where}: {what}; correct the file.") from None


def parse(text: str, file: str = "params.yaml") -> Params:
    """Checks the text of a parameter file, and returns the parameters.

    Args:
        file: name of the file, for the error message.

    Raises:
        UserError: the text is not YAML, or `validate` rejects its content.
    """
    return validate(_parse(text, file), file)


def load(path: Path) -> Params:
    """Reads and checks params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or `validate` rejects its content.
    """
    return validate(_read(path), path.name)


def preset_names(presets: Path) -> list[str]:
    return sorted(path.stem for path in presets.glob("*.yaml"))


def describe_presets(presets: Path) -> dict[str, str]:
    """Returns the comment at the head of each preset, by the name of the preset."""
    return {
        name: " ".join(
            line.removeprefix("#").strip()
            for line in itertools.takewhile(
                lambda line: line.startswith("#"), (presets / f"{name}.yaml").read_text().splitlines()
            )
        )
        for name in preset_names(presets)
    }


def load_preset(presets: Path, name: str) -> Params:
    """Reads and checks `presets/NAME.yaml`.

    Raises:
        UserError: there is no such preset.
    """
    if name not in preset_names(presets):
        raise UserError(f"preset: there is no preset {name!r}; give one of {', '.join(preset_names(presets))}.")
    return load(presets / f"{name}.yaml")


def write_preset(path: Path, preset: Params) -> None:
    """Writes every value of `preset` into the params.yaml at `path`, and keeps the comments there."""
    document = _read(path)
    if not isinstance(document, dict) or set(document) != set(Params.model_fields):
        validate(document, path.name)  # raises an error that names the missing or unknown key
    for key, value in preset.model_dump().items():
        document[key] = value
    text = io.StringIO()
    _yaml().dump(document, text)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue())


def overrides(present: Params, preset: Params) -> list[str]:
    """Returns the changes that turn `present` into `preset`, each as `key=value` for `dvc exp run -S`."""
    old, new = present.model_dump(), preset.model_dump()
    return [f"{key}={override_value(value)}" for key, value in new.items() if old[key] != value]


def override_value(value: Any) -> str:
    """Returns a value as `dvc exp run -S` takes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
