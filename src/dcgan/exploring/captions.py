"""Pictures with words beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcgan.data.images import Pixels, grid

_SIZE = 12  # pixels of a letter's height
_MARGIN = 6


def rows(names: Sequence[str], pictures: Sequence[Pixels], columns: int) -> Pixels:
    """Arranges pictures, each (columns, H, W, C), in rows with a name before each, on white."""
    sheet = grid(np.concatenate(pictures), columns)
    step = (len(sheet) - 2) // len(names)
    width = max(_width(name) for name in names) + 2 * _MARGIN
    places = [(_MARGIN, 2 + round((number + 0.5) * step) - _SIZE // 2) for number in range(len(names))]
    return np.concatenate([_written(len(sheet), width, names, places, sheet.shape[2]), sheet], axis=1)


def side_by_side(parts: Sequence[tuple[str, Pixels]]) -> Pixels:
    """Arranges pictures (H, W, C) of any height from left to right on white, each in the middle above its name."""
    tallest = max(len(picture) for _, picture in parts)
    columns = []
    for name, picture in parts:
        height, wide, channels = picture.shape
        width = max(wide, _width(name)) + 2 * _MARGIN
        column = np.full((tallest, width, channels), 255, np.uint8)
        top, left = (tallest - height) // 2, (width - wide) // 2
        column[top : top + height, left : left + wide] = picture
        place = ((width - _width(name)) // 2, _MARGIN // 2)
        columns.append(np.concatenate([column, _written(2 * _SIZE, width, [name], [place], channels)]))
    return np.concatenate(columns, axis=1)


def _width(text: str) -> int:
    return round(_font().getlength(text))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_SIZE)


def _written(height: int, width: int, texts: Sequence[str], places: Sequence[tuple[int, int]], channels: int) -> Pixels:
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    for text, place in zip(texts, places, strict=True):
        draw.text(place, text, fill=0, font=_font())
    return np.repeat(np.asarray(image)[:, :, None], channels, axis=2)
