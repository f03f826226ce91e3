"""The pictures of the report: made small enough for one file, cut out, and their variety measured."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 2  # white pixels around each face of a grid
COLUMNS = 8  # of samples.png and real.png
_CLOSE = 4  # rows and columns of faces that are shown closer
_SIDE = 8  # pixels that a face is averaged down to, to measure variety
_QUALITIES = (90, 80, 65, 50)  # of WebP, tried in this order
_MOST_FRAMES = 33  # of the training's progress
_FRAME_SIDE = 544  # pixels; 64 faces of 64 pixels fit unreduced
_SAMPLES = 700_000  # bytes: so much that the picture to judge by is not compressed again at 64 pixels
_MOST = {"samples.png": _SAMPLES, "neighbours.png": 350_000}  # bytes; the others:
_OTHERS, _CLOSER, _FRAMES = 250_000, 140_000, 1_300_000  # bytes of one; of one that is shown closer; of all frames


class Picture(NamedTuple):
    """A picture in the page, with its size in pixels."""

    uri: str
    width: int
    height: int

    def scale(self, most: int = 528) -> int:
        """How many times it is enlarged to be about `most` pixels wide; at least 1."""
        return max(1, round(most / self.width))


class Variety(NamedTuple):
    """How much generated faces differ, as shares of what real faces have."""

    spread: float  # standard deviation across faces; small if all are alike
    apart: float  # median distance of a face to the nearest other one; small if a few faces are repeated


class Frame(NamedTuple):
    """A grid of the fixed latents' pictures after so many epochs; some frames are printed."""

    epoch: int
    picture: Picture
    printed: bool


def embedded(pictures: Mapping[str, bytes]) -> dict[str, Picture]:
    """All pictures, each as small as it has to be for a page of less than 5 MB."""
    return {name: _embedded(content, _MOST.get(name, _OTHERS)) for name, content in pictures.items()}


def frames(grids: Sequence[bytes]) -> list[Frame]:
    """At most 33 evenly spaced grids of the training's progress, one for each epoch from 0 on."""
    chosen = sorted({round(i) for i in np.linspace(0, len(grids) - 1, min(_MOST_FRAMES, len(grids)))})
    printed = {chosen[round(i)] for i in np.linspace(0, len(chosen) - 1, min(6, len(chosen)))}
    most = _FRAMES // max(1, len(chosen))
    return [Frame(epoch, _embedded(grids[epoch], most, _FRAME_SIDE), epoch in printed) for epoch in chosen]


def closer(grid: bytes, side: int) -> Picture:
    """The first rows and columns of a grid of faces of `side` pixels."""
    opened: Image.Image = Image.open(io.BytesIO(grid))
    width, height = (min(_CLOSE * (side + GAP) + GAP, whole) for whole in opened.size)
    out = io.BytesIO()
    opened.crop((0, 0, width, height)).save(out, "PNG")
    return _embedded(out.getvalue(), _CLOSER)


def variety(grid: bytes, real: bytes, side: int) -> Variety:
    """The variety of the faces of a grid, compared with the real faces of another; 1 if those have none.

    As in `training.diversity`, faces are averaged down to 8x8 pixels.
    """
    made, data = (_measured(_faces(each, side)) for each in (grid, real))
    return Variety(*(ours / theirs if theirs else 1.0 for ours, theirs in zip(made, data, strict=True)))


def _faces(grid: bytes, side: int) -> npt.NDArray[np.float64]:
    """The faces of a grid as (N, 8, 8, C); cells without a face are left out."""
    pixels = np.asarray(Image.open(io.BytesIO(grid)), np.float64)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    cells = [
        pixels[top : top + side, left : left + side]
        for top in range(GAP, len(pixels) - side, side + GAP)
        for left in range(GAP, pixels.shape[1] - side, side + GAP)
    ]
    faces = np.array([cell for cell in cells if cell.min() < 255]).reshape(-1, side, side, pixels.shape[2])
    return faces.reshape(len(faces), _SIDE, side // _SIDE, _SIDE, side // _SIDE, -1).mean(axis=(2, 4))


def _measured(faces: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The standard deviation across faces (N, 8, 8, C), and the median distance of a face to the nearest other one."""
    if len(faces) < 2:
        return 0.0, 0.0
    flat = faces.reshape(len(faces), -1)
    squared = np.square(flat[:, None] - flat).mean(axis=2)
    np.fill_diagonal(squared, np.inf)
    return float(np.sqrt(faces.var(axis=0, ddof=1).mean())), float(np.median(np.sqrt(squared.min(axis=1))))


def _embedded(content: bytes, most: int, side: int | None = None) -> Picture:
    """A PNG file as it is if it has at most `most` bytes, otherwise as WebP, reduced until it has.

    Args:
        side: largest width and height in pixels.
    """
    image: Image.Image = Image.open(io.BytesIO(content))
    if len(content) <= most and (side is None or max(image.size) <= side):
        return Picture(_uri("png", content), *image.size)
    image = image.convert("RGB")
    if side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    while True:
        for quality in _QUALITIES:
            out = io.BytesIO()
            image.save(out, "WEBP", quality=quality, method=2)  # as small as the default 4, twice as fast
            if len(out.getvalue()) <= most or min(image.size) < 64:
                return Picture(_uri("webp", out.getvalue()), *image.size)
        image = image.reduce(2)


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
