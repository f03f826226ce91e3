"""Folders of picture files, read as pytorch-fid reads them, and written so that pytorch-fid can read them."""

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

SUFFIXES = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # those of pytorch-fid
_WRITTEN = 64  # pictures per batch


def open_folder(folder: Path) -> tuple[Pictures, int]:
    """Returns the pictures of a folder, in the order of their names and in three channels, and their number.

    Raises:
        UserError: there is no such folder, it has fewer than two pictures, or the first picture cannot be read. The
            returned function raises it if a picture cannot be read, or differs in size from the first.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give one that holds pictures.")
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(files) < 2:
        many = "1 picture" if files else "no pictures"
        raise UserError(f"{folder}: it holds {many}, but a distance needs 2; add more.")
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

    return read, len(files)


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
