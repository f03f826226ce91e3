"""Packed pictures: opens them, arranges them in grids, and saves them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from dcgan.data.index import SPLITS
from dcgan.system.errors import UserError
from dcgan.system.files import atomic

Pixels = npt.NDArray[np.uint8]


def open_faces(folder: Path, split: str) -> Pixels:
    """Opens the faces of a split (train, valid, test or all) as a memory map, (N, image_size, image_size, nc)."""
    faces: Pixels = np.load(folder / "faces.npy", mmap_mode="r")
    if split == "all":
        return faces
    splits = pd.read_parquet(folder / "faces.parquet", columns=["split"])["split"].map(SPLITS.index)
    first, end = np.searchsorted(splits, [SPLITS.index(split), SPLITS.index(split) + 1])
    return faces[first:end]


def open_shown(folder: Path) -> Pixels:
    """Opens the faces that pictures of the data show: those of the train split, or all if it has none."""
    train = open_faces(folder, "train")
    return train if len(train) else open_faces(folder, "all")


def open_for_training(folder: Path, split: str, batch_size: int) -> Pixels:
    """Opens the faces of a split (train or all) to be trained on in batches of `batch_size`.

    Raises:
        UserError: the split does not fill a batch.
    """
    chosen, total = open_faces(folder, split), len(open_faces(folder, "all"))
    if len(chosen) >= batch_size:
        return chosen
    counts = ", ".join(f"{name} {len(open_faces(folder, name))}" for name in SPLITS)
    what = f"train_split: {split} has {len(chosen)} of the {total} pictures ({counts})"
    if total < 2:
        raise UserError(f"{what}, but a training needs at least 2; add pictures to the data set.")
    if len(chosen) < 2:
        remedy = "train_split: all" + (f" and batch_size to at most {total}" if total < batch_size else "")
    else:
        remedy = ("train_split: all or " if total >= batch_size else "") + f"batch_size to at most {len(chosen)}"
    raise UserError(f"{what}, fewer than batch_size: {batch_size}; set {remedy}.")


def grid(pictures: Pixels, columns: int, gap: int = 2) -> Pixels:
    """Arranges uint8 pictures (N, H, W, C) row by row on white: (rows * H + gaps, columns * W + gaps, C)."""
    n, height, width, channels = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def to_image(pixels: Pixels) -> Image.Image:
    """Converts uint8 pixels (H, W, 1) or (H, W, 3) to a Pillow image."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def save_png(path: Path, picture: Pixels | Path) -> None:
    """Saves pixels (H, W, C) as a PNG file, or copies a PNG file."""
    with atomic(path) as temporary:
        if isinstance(picture, Path):
            shutil.copyfile(picture, temporary)
        else:
            to_image(picture).save(temporary, "PNG")


def choose(faces: Pixels, count: int, seed: int) -> Pixels:
    """Returns at most `count` different faces, chosen at random with `seed`, in their original order."""
    chosen = np.random.default_rng(seed).permutation(len(faces))[:count]
    picked: Pixels = faces[np.sort(chosen)]
    return picked


def side_by_side(left: Pixels, right: Pixels, columns: int) -> Pixels:
    """Arranges two grids of pictures side by side, with white between them."""
    sheets = grid(left, columns), grid(right, columns)
    height = max(len(sheet) for sheet in sheets)
    padded = [np.pad(s, ((0, height - len(s)), (0, 0), (0, 0)), constant_values=255) for s in sheets]
    between = np.full((height, 16, padded[0].shape[2]), 255, np.uint8)
    return np.concatenate([padded[0], between, padded[1]], axis=1)


def save_animation(path: Path, frames: list[Path], max_frames: int = 60) -> None:
    """Saves a GIF of at most `max_frames` picture files, evenly spaced: 0.25 s for each, 2.5 s for the last."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(max_frames, len(frames)))]
    pictures = [Image.open(frame).convert("RGB").quantize(256) for frame in chosen]
    milliseconds = [250] * (len(pictures) - 1) + [2500]
    with atomic(path) as temporary:
        pictures[0].save(temporary, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
