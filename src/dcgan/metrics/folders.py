"""Folders of picture files, measured as pytorch-fid measures them, and written so that it can."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcgan.data.images import Pixels, to_image
from dcgan.metrics.collecting import Pictures
from dcgan.system.errors import UserError
from dcgan.system.files import atomic
from dcgan.system.progress import progress

SUFFIXES = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # pytorch-fid's
_WRITTEN = 64  # at a time


def open_folder(folder: Path) -> tuple[Pictures, int]:
    """The pictures of a folder in the order of their names, in three channels, and how many they are.

    Raises:
        UserError: there is no such folder, or it has fewer than two pictures; when they are read: one of them cannot
            be read, or is of another size than the first.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give one that holds pictures.")
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(files) < 2:
        many = "1 picture" if files else "no pictures"
        raise UserError(f"{folder}: it holds {many}, and a distance needs 2; put more there.")
    first = _read(files[0])

    def read(numbers: slice) -> Tensor:
        wanted = files[numbers]
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(_read, wanted))
        for path, picture in zip(wanted, pictures, strict=True):
            if picture.shape != first.shape:
                raise UserError(
                    f"{path}: it has {picture.shape[1]}x{picture.shape[0]} pixels, and {files[0].name} "
                    f"{first.shape[1]}x{first.shape[0]}; give all pictures of a folder the same size."
                )
        return torch.from_numpy(np.stack(pictures))

    return read, len(files)


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        raise UserError(
            f"{path}: it is no picture that can be read ({type(error).__name__}); remove or replace it."
        ) from None


def write_folder(folder: Path, pictures: Callable[[slice], Tensor | Pixels], count: int, what: str) -> None:
    """Writes `count` pictures, uint8 (N, H, W, C), as PNG files whose names are their numbers, into a new folder.

    Raises:
        UserError: the folder is there already, and not empty.
    """
    folder = folder.resolve()
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{folder}: {above} is no folder; give another name.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: it is there already; give the name of a new folder, or remove it.")
    with atomic(folder) as temporary:
        temporary.mkdir()
        starts = range(0, count, _WRITTEN)
        for start in progress(starts, len(starts), what, "batches"):
            batch = pictures(slice(start, min(start + _WRITTEN, count)))
            for number, picture in enumerate(batch.cpu().numpy() if isinstance(batch, Tensor) else batch, start):
                to_image(picture).save(temporary / f"{number:06d}.png")
