"""Statistics in a file as pytorch-fid keeps them (`.npz`), and what is known of them in a `.json` file beside it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dcgan.metrics.frechet import Statistics
from dcgan.metrics.names import FID, FRECHET_DISTANCE
from dcgan.metrics.weights import SHA256
from dcgan.system.errors import UserError
from dcgan.system.files import sha256, together

SUFFIX = ".npz"


@dataclass(frozen=True)
class About:
    """How statistics were computed: two distances can be compared only if these are known and equal."""

    network: str
    weights_sha256: str
    arithmetic: str
    count: int  # pictures
    size: str  # of the pictures, such as 64x64
    crop: str | None  # as the user describes it; None: not told

    @property
    def distance_name(self) -> str:
        """The name of the Frechet distance between features of this network with these weights."""
        published = self.network == "inception" and self.weights_sha256 == SHA256["inception"]
        return FID if published else FRECHET_DISTANCE


def check_new(path: Path) -> None:
    """Checks that statistics can be written to `path`.

    Raises:
        UserError: it does not end in `.npz`, or a file of this name or beside it exists, or it leads through a file.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"{path}: statistics are kept in a file whose name ends in {SUFFIX}; give such a name.")
    for file in (path, _beside(path)):
        if file.exists():
            raise UserError(f"{file}: it already exists; give another name, or remove it.")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{path}: {above} is not a folder; give another path.")


def write(path: Path, statistics: Statistics, about: About) -> None:
    """Writes the statistics to the new file `path` (`mu` and `sigma`, float64), and `about` beside it.

    Features are not written, since pytorch-fid has none.
    """
    with together() as new:
        with new(path).open("wb") as file:
            np.savez_compressed(file, mu=statistics.mean, sigma=statistics.covariance)
        known = {"statistics": path.name, "sha256": sha256(new(path)), **asdict(about)}
        new(_beside(path)).write_text(json.dumps(known, indent=2) + "\n")


def read(path: Path) -> tuple[Statistics, About | None]:
    """Reads statistics, and what is known of them; None if no file beside it tells, as beside pytorch-fid's own.

    The count of the statistics is 0 if it is not known.

    Raises:
        UserError: the file holds no statistics, or the file beside it describes another one.
    """
    try:
        with np.load(path) as file:
            mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; give statistics, or a folder of pictures.") from None
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: it holds no statistics (mu and sigma); compute them with --save-stats.") from None
    size = mean.size
    if mean.shape != (size,) or covariance.shape != (size, size) or not size:
        raise UserError(f"{path}: mu has the shape {mean.shape} and sigma {covariance.shape}; compute them anew.")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path}: some of its numbers are not finite; compute it anew from undamaged pictures.")
    about = _about(path)
    return Statistics(about.count if about else 0, mean, covariance), about


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _about(path: Path) -> About | None:
    beside = _beside(path)
    if not beside.exists():
        return None
    try:
        known = json.loads(beside.read_text())
        digest = known.pop("sha256")
        del known["statistics"]
        about = About(**known)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{beside}: it does not say how {path.name} was computed; remove or rename it.") from None
    if digest != sha256(path):
        raise UserError(f"{beside}: it describes another {path.name}, with SHA-256 {digest}; remove it.")
    return about
