"""Folders of picture files, read as pytorch-fid reads them, and written so that pytorch-fid can read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcgan.data.file_names import as_path
from dcgan.data.images import Pixels, to_image
from dcgan.data.inventory import HIDDEN, look
from dcgan.metrics.collecting import Pictures
from dcgan.system.errors import UserError
from dcgan.system.files import atomic
from dcgan.system.progress import progress

SUFFIXES = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # those of pytorch-fid
_WRITTEN = 64  # pictures per batch


class Folder(NamedTuple):
    """The pictures of a folder, in the order of their names and in three channels."""

    read: Pictures
    number: int  # of pictures
    size: str  # of the first picture, such as 64x64
    left_out: Counter[str]  # files that are not read, by kind
    not_theirs: int  # pictures that pytorch-fid leaves out, since their names end in capitals or they are in subfolders


def open_folder(folder: Path, recursive: bool = False) -> Folder:
    """Opens the pictures of a folder: files whose names end like those that pytorch-fid reads, in capitals too.

    Args:
        recursive: whether pictures in subfolders are read too.

    Raises:
        UserError: there is no such folder, it has fewer than two pictures, or the first picture cannot be read. The
            function `read` raises it if a picture cannot be read, or differs in size from the first.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give one that holds pictures.")
    files, left_out = _listed_below(folder) if recursive else _listed(folder)
    if len(files) < 2:
        many = "1 picture" if files else "no pictures"
        others = f" ({counted(left_out)} left out)" if left_out else ""
        raise UserError(f"{folder}: it holds {many}{others}, but a distance needs 2; add more.")
    first = _read(files[0])

    def read(numbers: slice) -> Tensor:
        wanted = files[numbers]
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(_read, wanted))
        for path, picture in zip(wanted, pictures, strict=True):
            if picture.shape != first.shape:
                raise UserError(
                    f"{path}: it has {picture.shape[1]}x{picture.shape[0]} pixels, but {files[0].name} has "
                    f"{first.shape[1]}x{first.shape[0]}; make all pictures of a folder the same size."
                )
        return torch.from_numpy(np.stack(pictures))

    theirs = sum(path.suffix in SUFFIXES and path.parent == folder for path in files)
    return Folder(read, len(files), f"{first.shape[1]}x{first.shape[0]}", left_out, len(files) - theirs)


def counted(kinds: Counter[str]) -> str:
    """Returns kinds of files with their numbers, such as `2 hidden, 1 .txt`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _listed(folder: Path) -> tuple[list[Path], Counter[str]]:
    files, left_out = [], Counter[str]()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):  # such as ._0.png, which macOS leaves beside 0.png
            left_out["hidden"] += 1
        elif path.suffix.lower() in SUFFIXES:
            files.append(path)
        else:
            left_out["subfolder" if path.is_dir() else path.suffix or "without ending"] += 1
    return files, left_out


def _listed_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    found, left_out = look(folder), Counter[str]()
    files = []
    for name, problem in zip(found["file"], found["problem"], strict=True):
        path = Path(as_path(folder, name))
        if problem:
            left_out["hidden" if problem == HIDDEN else "unreadable"] += 1
        elif path.suffix.lower() in SUFFIXES:
            files.append(path)
        else:
            left_out[path.suffix or "without ending"] += 1
    return sorted(files), left_out


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly any exception on damaged files
        raise UserError(
            f"{path}: it cannot be read as a picture ({type(error).__name__}); remove or replace it."
        ) from None


def write_folder(folder: Path, pictures: Callable[[slice], Tensor | Pixels], count: int, what: str) -> None:
    """Writes `count` pictures, uint8 (N, H, W, C), as numbered PNG files into a new folder.

    Args:
        what: name of the work, for the progress.

    Raises:
        UserError: the folder already exists and is not empty, or its path leads through a file.
    """
    folder = folder.resolve()
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{folder}: {above} is not a folder; give another path.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: it already exists; give the name of a new folder, or remove it.")
    with atomic(folder) as temporary:
        temporary.mkdir()
        starts = range(0, count, _WRITTEN)
        for start in progress(starts, len(starts), what, "batches"):
            batch = pictures(slice(start, min(start + _WRITTEN, count)))
            for number, picture in enumerate(batch.cpu().numpy() if isinstance(batch, Tensor) else batch, start):
                to_image(picture).save(temporary / f"{number:06d}.png")
