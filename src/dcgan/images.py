"""Decode, crop, resize and pack pictures; lay packed pictures out as grids.

The definition of a face, in Pillow: apply the EXIF orientation, convert to RGB (to L for nc 1; what is
transparent becomes white), take the centred square of `crop_size`, then
`resize((image_size, image_size), LANCZOS, reducing_gap=None)`, which filters against aliasing.
"""

from __future__ import annotations

import concurrent.futures
import functools
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

from dcgan.datasets.index import SPLITS, read_index
from dcgan.errors import UserError
from dcgan.files import atomic, write_json
from dcgan.progress import progress
from dcgan.workers import cores, worker_pool

Pixels = npt.NDArray[np.uint8]
_CHUNK = 256  # pictures handed to a worker at a time: bounds the memory, whatever the number of pictures
_MOST_PIXELS = 89_478_485  # Pillow's own line between a picture and a decompression bomb


def face(data: bytes, crop_size: int | None, image_size: int, nc: int) -> Pixels:
    """A picture file's bytes as a face, uint8 of shape (image_size, image_size, nc).

    Args:
        crop_size: side of the centred square in pixels; None: the largest that fits.

    Raises:
        ValueError: the bytes are no picture, are damaged, or hold too few or too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture: Image.Image = Image.open(io.BytesIO(data))
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            picture = _to_mode(ImageOps.exif_transpose(picture), "L" if nc == 1 else "RGB")
    except UnidentifiedImageError:  # its own message holds an address in memory
        raise ValueError("it is no picture in a known format") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        raise ValueError(_reason(error)) from None
    side = crop_size or min(picture.size)
    if side > min(picture.size):
        raise ValueError(f"{picture.width}x{picture.height} is smaller than the crop of {side}")
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    small = square.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=None)
    return np.asarray(small).reshape(image_size, image_size, nc)


def _reason(error: Exception) -> str:
    """What an exception says, in one line that is the same in every run."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(error).splitlines()[0]) if str(error) else type(error).__name__


def _to_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip 16 bits to 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert(mode)


@functools.cache
def _open_archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _faces(members: list[tuple[Path, str]], crop_size: int | None, image_size: int, nc: int) -> list[Pixels | str]:
    """Each member as a face, or the reason why not."""
    results: list[Pixels | str] = []
    for path, member in members:
        try:
            data = _open_archive(path).read(member)
        except Exception as error:  # zipfile raises many kinds on damaged members, each the picture's own fault
            results.append(_reason(error))
            continue
        try:
            results.append(face(data, crop_size, image_size, nc))
        except ValueError as error:
            results.append(str(error))
    return results


def pack(
    raw: Path,
    faces: Path,
    report: Path,
    crop_size: int | None,
    image_size: int,
    nc: int,
    max_bad_fraction: float,
    workers: int | None = None,
) -> None:
    """Crops every picture of `raw` into the new folder `faces`, and says in `report` what it found.

    Writes train.npy, valid.npy and test.npy, uint8 of shape (N, image_size, image_size, nc), and
    faces.parquet, one row a face in the order of the arrays: file, split, attributes. The bytes do not
    depend on the number of `workers` (processes; None: one a core).

    Raises:
        UserError: there are no pictures, or more than `max_bad_fraction` of them cannot be read.
    """
    pictures = read_index(raw)
    if pictures.empty:
        raise UserError("dataset: it holds no pictures.")
    faces.mkdir(parents=True)
    bad: list[dict[str, str]] = []
    kept, counts = [], {}
    with worker_pool(workers) as pool:
        for split in SPLITS:
            rows = pictures[pictures["split"] == split]
            members = [(raw / archive, file) for archive, file in zip(rows["archive"], rows["file"], strict=True)]
            read = functools.partial(_faces, crop_size=crop_size, image_size=image_size, nc=nc)
            chunks = [members[i : i + _CHUNK] for i in range(0, len(members), _CHUNK)]
            results = (result for chunk in _bounded_map(pool, read, chunks) for result in chunk)
            bar = progress(results, len(members), f"cropping {split}", "pictures")
            good = _write_array(faces / f"{split}.npy", (len(rows), image_size, image_size, nc), bar)
            bad += [{"file": rows["file"].iloc[i], "reason": r} for i, r in enumerate(good) if r]
            kept.append(rows[[not reason for reason in good]])
            counts[split] = len(kept[-1])
    if len(bad) > max_bad_fraction * len(pictures):
        raise UserError(
            f"max_bad_fraction: {len(bad)} of {len(pictures)} pictures cannot be used, more than {max_bad_fraction:g} "
            f"of them; the first is {bad[0]['file']}: {bad[0]['reason']}. Repair or remove them, or raise the key."
        )
    table = pd.concat(kept).drop(columns="archive")
    table.to_parquet(faces / "faces.parquet", index=False)
    pixels = {"crop_size": crop_size, "image_size": image_size, "nc": nc}
    write_json(report, {"faces": counts, "pixels": pixels, "attributes": _frequencies(table), "bad": bad})


def _bounded_map(
    pool: concurrent.futures.Executor,
    function: functools.partial[list[Pixels | str]],
    chunks: Iterable[list[tuple[Path, str]]],
) -> Iterator[list[Pixels | str]]:
    """`pool.map` in order, with only a few results waiting, so that a slow reader bounds the memory."""
    waiting: list[concurrent.futures.Future[list[Pixels | str]]] = []
    for chunk in chunks:
        waiting.append(pool.submit(function, chunk))
        if len(waiting) > 2 * cores():
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _write_array(path: Path, shape: tuple[int, ...], results: Iterable[Pixels | str]) -> list[str]:
    """Writes the faces among `results`; returns for each of them the reason why it is none, or ""."""
    if shape[0] == 0:
        np.save(path, np.zeros(shape, np.uint8))
        return []
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    reasons, n = [], 0
    for result in results:
        reasons.append(result if isinstance(result, str) else "")
        if not isinstance(result, str):
            array[n] = result
            n += 1
    array.flush()
    if n < shape[0]:  # the header holds the count, so the array is written anew without the gap at its end
        shorter = path.with_suffix(".shorter.npy")
        np.save(shorter, array[:n])
        shorter.replace(path)
    return reasons


def _frequencies(table: pd.DataFrame) -> dict[str, float]:
    """The share of faces that have each attribute."""
    return {str(name): round(float(v), 4) for name, v in (table.drop(columns=["file", "split"]) > 0).mean().items()}


def open_split(faces: Path, split: str) -> Pixels:
    """The faces of a split (train, valid, test), memory-mapped; `all` is the three one after the other."""
    if split == "all":  # copied, since a memory map cannot span files
        return np.concatenate([open_split(faces, name) for name in SPLITS])
    array: Pixels = np.load(faces / f"{split}.npy", mmap_mode="r")
    return array


def grid(pictures: Pixels, columns: int, gap: int = 2) -> Pixels:
    """Pictures (N, H, W, C), uint8, laid out row by row on white: (rows * H + gaps, columns * W + gaps, C)."""
    n, height, width, channels = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def to_image(pixels: Pixels) -> Image.Image:
    """(H, W, 1) or (H, W, 3), uint8, as a Pillow image."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def save_png(path: Path, pixels: Pixels) -> None:
    with atomic(path) as temporary:
        to_image(pixels).save(temporary, "PNG")


def choose(faces: Pixels, count: int, seed: int) -> Pixels:
    """At most `count` different faces, drawn at random by `seed`, in their old order."""
    chosen = np.random.default_rng(seed).permutation(len(faces))[:count]
    picked: Pixels = faces[np.sort(chosen)]
    return picked


def side_by_side(left: Pixels, right: Pixels, columns: int) -> Pixels:
    """Two grids of pictures with white between them."""
    sheets = grid(left, columns), grid(right, columns)
    height = max(len(sheet) for sheet in sheets)
    padded = [np.pad(s, ((0, height - len(s)), (0, 0), (0, 0)), constant_values=255) for s in sheets]
    between = np.full((height, 16, padded[0].shape[2]), 255, np.uint8)
    return np.concatenate([padded[0], between, padded[1]], axis=1)


def save_animation(path: Path, frames: list[Path], most: int = 60) -> None:
    """A GIF of picture files, at most `most` of them, evenly chosen, the last one shown longer."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(most, len(frames)))]
    pictures = [Image.open(frame).convert("RGB").quantize(256) for frame in chosen]
    milliseconds = [250] * (len(pictures) - 1) + [2500]
    with atomic(path) as temporary:
        pictures[0].save(temporary, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
