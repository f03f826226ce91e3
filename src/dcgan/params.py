"""The schema of params.yaml: every hyperparameter, its type, range, unit and meaning.

One section a pipeline stage. `Params` is all of them together with the checks across keys; a stage
validates the whole file and is handed its own section alone (`Params.section`).
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

from dcgan.system.choices import Architecture, DiscriminatorNorm, FidNetwork, Keep, Latent, Loss
from dcgan.system.errors import UserError
from dcgan.system.files import atomic

# A data set is a module of data/sources. The type checker cannot look there.
DATASETS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("data/sources/[!_]*.py")))
if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[DATASETS]
Split = Literal["train", "all", "test"]
Precision = Literal["auto", "fp32", "bf16"]
T = TypeVar("T")


class Section(BaseModel):
    """A group of parameters; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_yaml_means_it(cls, value: Any, info: Any) -> Any:
        if value == "":  # `dvc exp run -S crop_size=` writes an empty string
            return None
        # Pydantic reads True as 1, which in YAML is far more often a slip than a number.
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("a boolean is not a number")
        return value

    def part(self, kind: type[T]) -> T:
        """A dataclass whose fields are keys of this section."""
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


class DownloadParams(Section):
    dataset: Dataset = Field(description="where the pictures come from")
    dataset_size: int | None = Field(
        ge=1, le=10_000_000, description="pictures: how many are drawn, or the most that are taken of others"
    )
    dataset_seed: int = Field(ge=0, lt=2**32, description="seed of drawn pictures, apart from `seed`")


class InventoryParams(Section):
    dataset: Dataset


class CropParams(Section):
    crop_size: int | None = Field(ge=8, le=16_384, description="centred square in pixels; empty: the largest")
    image_size: Literal[32, 64, 128, 256] = Field(description="pixels a side after resizing")
    nc: Literal[1, 3] = Field(description="colour channels")
    max_bad_fraction: float = Field(ge=0, le=1, description="share of unreadable pictures that is tolerated")


class NetworkParams(Section):
    architecture: Architecture = Field(description="conv: the paper's and the PyTorch tutorial's; linear: projections")
    image_size: Literal[32, 64, 128, 256]
    nc: Literal[1, 3]
    nz: int = Field(ge=1, le=4096, description="size of the latent")
    ngf: int = Field(ge=1, le=1024, description="generator's channels at half the picture's resolution")
    ndf: int = Field(ge=1, le=1024, description="discriminator's channels at half the picture's resolution")
    latent: Latent = Field(description="N(0, 1), or uniform on [-1, 1]")
    discriminator_norm: DiscriminatorNorm = Field(description="normalisation in the discriminator")


class TrainParams(NetworkParams):
    train_split: Literal["train", "all"] = Field(description="pictures that are trained on")
    seed: int = Field(ge=0, lt=2**32, description="seed of weights, latents, order and sampling")
    epochs: int = Field(ge=1, le=100_000, description="passes over the pictures")
    batch_size: int = Field(ge=2, le=65_536, description="pictures a step, over all ranks")
    lr: float = Field(gt=0, le=1, description="Adam's learning rate")
    lr_discriminator: float | None = Field(gt=0, le=1, description="the discriminator's; empty: as lr")
    beta1: float = Field(ge=0, lt=1, description="Adam's decay of the first moment")
    beta2: float = Field(ge=0, lt=1, description="Adam's decay of the second moment")
    loss: Loss = Field(description="adversarial loss")
    label_smoothing: float = Field(ge=0, le=0.5, description="taken off the real label, in the discriminator only")
    r1_gamma: float = Field(ge=0, le=10_000, description="weight of the R1 and R2 gradient penalties; 0: none")
    ema_halflife_kimg: float = Field(ge=0, le=1e6, description="thousand pictures; 0: no averaging")
    augment: bool = Field(description="DiffAugment: colour, translation, cutout")
    ngpu: Literal["auto", 0, 1, 2, 3, 4, 5, 6, 7, 8] = Field(description="GPUs of a machine; 0: the CPU")
    precision: Precision = Field(description="arithmetic of the forward and backward passes")
    distance_kimg: float = Field(
        ge=0, le=1e6, description="thousand pictures between two quick Frechet distances of the training; 0: none"
    )
    keep: Keep = Field(description="which generator is kept: the last, or the one of least distance")


class SampleParams(Section):
    seed: int = Field(ge=0, lt=2**32)


class WeightsParams(Section):
    fid_network: FidNetwork = Field(description="feature network of the Frechet distance")


class ReferenceParams(WeightsParams):
    fid_compile: bool = Field(description="on a CPU, compile that network: for many pictures; needs a C++ compiler")


class EvaluateParams(Section):
    seed: int = Field(ge=0, lt=2**32)
    fid_network: FidNetwork
    fid_compile: bool
    fid_samples: int = Field(ge=2, le=10_000_000, description="pictures generated for the distance")
    fid_repeats: int = Field(ge=1, le=100, description="draws of so many, for the spread of the distance")
    fid_split: Split = Field(description="split whose statistics are the reference")


class Params(DownloadParams, CropParams, TrainParams, EvaluateParams):
    """All of params.yaml."""

    def section(self, kind: type[SectionT]) -> SectionT:
        """The keys of one section, and no others."""
        return kind(**{name: getattr(self, name) for name in kind.model_fields})


SectionT = TypeVar("SectionT", bound=Section)

# The side of the pictures that a source publishes, where it is one number.
_DRAWN = {"avatars"}  # of so many pictures as dataset_size says
# The shorter side of the pictures in pixels, where it is known.
_SOURCE_SIDE = {"avatars": 178, "celeba": 178, "cifar10": 32}


def avatars_split(size: int) -> tuple[int, int]:
    """How many of `size` avatars are for training and for tests: about CelebA's shares, 80 % and 10 %."""
    return math.ceil(0.8 * size), size - math.ceil(0.9 * size)


def validate(values: Any, file: str = "params.yaml") -> Params:
    """Checks all of `values`, the content of the file of that name.

    Raises:
        UserError: one line for each wrong key: the key, its value, and what is allowed.
    """
    if not isinstance(values, dict):
        raise UserError(f"{file}: it holds no keys; `git checkout {file}` brings the committed one back.")
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
        return f"{key}: there is no such parameter; the parameters are {', '.join(Params.model_fields)}."
    allowed = _allowed(Params.model_fields[key])
    if error["type"] == "missing":
        return f"{key}: the key is missing; give it {allowed}."
    return f"{key}: {error['input']!r} is not allowed; give {allowed}."


def _allowed(field: FieldInfo) -> str:
    """What a field takes, in words."""
    choices = get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ()
    kind = choices[0] if choices else field.annotation
    empty = ", or nothing" if choices else ""
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}{empty}"
    if kind is bool:
        return "true or false"
    low = next((f"from {m.ge}" for m in field.metadata if isinstance(m, Ge)), None) or next(
        f"above {m.gt}" for m in field.metadata if isinstance(m, Gt)
    )
    high = next((f"to {m.le}" for m in field.metadata if isinstance(m, Le)), None) or next(
        f"to below {m.lt}" for m in field.metadata if isinstance(m, Lt)
    )
    return f"a {'whole ' if kind is int else ''}number {low} {high}{empty}"


def _impossible_combination(p: Params) -> str | None:
    if p.dataset in _DRAWN and p.dataset_size is None:
        return f"dataset_size: it is empty, but dataset: {p.dataset} draws as many pictures as it says; give a number."
    if p.dataset_size is not None and p.batch_size > p.dataset_size:
        return (
            f"batch_size: {p.batch_size} is more than dataset_size: {p.dataset_size}; lower the one or raise the other."
        )
    if p.dataset == "avatars" and p.dataset_size is not None:
        train, test = avatars_split(p.dataset_size)
        if p.train_split == "train" and p.batch_size > train:
            return (
                f"batch_size: {p.batch_size} is more than the {train} training pictures that "
                f"dataset_size: {p.dataset_size} leaves; lower the one or raise the other."
            )
        if p.fid_split == "test" and test < 2:
            return f"fid_split: test has {test} pictures with dataset_size: {p.dataset_size}, not 2; give train or all."
    side = _SOURCE_SIDE.get(p.dataset)
    if side and p.crop_size and p.crop_size > side:
        return f"crop_size: {p.crop_size} is more than the {side} pixels of dataset: {p.dataset}; give at most {side}."
    if p.ngpu != "auto" and p.ngpu > 1 and p.batch_size % p.ngpu:
        return (
            f"batch_size: {p.batch_size} cannot be shared equally by ngpu: {p.ngpu}; "
            f"give a multiple of {p.ngpu}, as {-(-p.batch_size // p.ngpu) * p.ngpu}."
        )
    if p.keep == "best" and not p.distance_kimg:
        return "keep: best needs distances while training; give distance_kimg above 0, or keep: last."
    if p.label_smoothing and p.loss not in ("bce", "minimax", "lsgan"):
        return (
            f"label_smoothing: {p.label_smoothing} has no meaning with loss: {p.loss}, which has no labels; "
            "give 0, or loss: bce, minimax or lsgan."
        )
    return None


def _yaml() -> YAML:
    # DVC reads and writes params.yaml with ruamel.yaml, so the same text means the same here.
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", ""))
    return yaml


def _read(path: Path) -> Any:
    try:
        return _yaml().load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path.name}: there is no such file; `git checkout {path.name}` brings it back.") from None
    except (YAMLError, ValueError) as error:  # ValueError: no text, or a date or number that cannot be
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise UserError(f"{path.name}: this is not YAML{where}: {what}; correct that line.") from None


def load(path: Path) -> Params:
    """Reads and checks params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or holds something wrong.
    """
    return validate(_read(path), path.name)


def preset_names(presets: Path) -> list[str]:
    return sorted(path.stem for path in presets.glob("*.yaml"))


def describe_presets(presets: Path) -> dict[str, str]:
    """What the comment at the head of each preset says, by name."""
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
        raise UserError(f"preset: there is no preset {name!r}; there are {', '.join(preset_names(presets))}.")
    return load(presets / f"{name}.yaml")


def write_preset(path: Path, preset: Params) -> None:
    """Writes every value of `preset` into params.yaml at `path` and keeps the comments there."""
    document = _read(path)
    if not isinstance(document, dict) or set(document) != set(Params.model_fields):
        validate(document, path.name)  # names the missing or unknown key
    for key, value in preset.model_dump().items():
        document[key] = value
    text = io.StringIO()
    _yaml().dump(document, text)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue())


def overrides(present: Params, preset: Params) -> list[str]:
    """What turns `present` into `preset`, each as the `key=value` of `dvc exp run -S`."""
    old, new = present.model_dump(), preset.model_dump()
    return [f"{key}={_override_value(value)}" for key, value in new.items() if old[key] != value]


def _override_value(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
