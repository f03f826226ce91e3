"""Reduces the levels of a Pillow image to 8 bits in grey or RGB, to what a viewer shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

_KIND_OF_PAGE = 254
_ASK = "convert it to 8 bits"


def misread(picture: TiffImageFile) -> str:
    """Returns why Pillow would read other pixels than this TIFF shows; empty if it would not."""
    tags = picture.tag_v2
    bits = max(tags.get(BITSPERSAMPLE, (1,)))
    if tags.get(_KIND_OF_PAGE, 0) & 1:
        return "its first page is the preview of another picture, as in raw files; convert it to a common format"
    if bits > 8 and tags.get(PLANAR_CONFIGURATION, 1) != 1 and len(picture.getbands()) > 1:
        return f"its {bits}-bit channels are stored in separate planes; {_ASK}"
    if bits < 32 and 2 in tags.get(SAMPLEFORMAT, (1,)):
        return f"its values are signed integers; {_ASK}"
    return ""


def to_eight_bits(picture: Image.Image) -> Image.Image:
    """Converts a picture that was opened in mode I;16, I or F to L, and in LAB to RGB; returns others as they are.

    Levels of 16 bits lose their lower byte. Nothing in a picture of 32 bits says which level is white: 0..255 are taken
    as they are, floats in 0..1 times 255, and unsigned integers that use the highest byte lose the lower three.

    Raises:
        ValueError: the levels are in none of these ranges.
    """
    if picture.mode == "LAB":  # Pillow's own conversion is up to 12 levels off, by a table that is too coarse
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)
        return transform.apply(picture)
    if not picture.mode.startswith(("I", "F")):
        return picture
    levels = np.asarray(picture)
    tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else {}
    if picture.mode.startswith("I;16") or picture.format == "PPM":  # Pillow scales the latter to 0..65535
        eight = (levels >> 8).astype(np.uint8)
    else:
        eight = _from_32_bits(levels.view(np.uint32) if tags.get(SAMPLEFORMAT, (1,)) == (1,) else levels)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # 0 is white; Pillow inverts only 8 bits and fewer
        eight = 255 - eight
    if "transparency" in picture.info:  # one level, shown as white
        eight[levels == picture.info["transparency"]] = 255
    return Image.fromarray(eight)


def _from_32_bits(levels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = float(levels.min()), float(levels.max())
    if levels.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(levels * 255).astype(np.uint8)
    if low >= 0 and 1 < high <= 255:
        return np.rint(levels).astype(np.uint8)
    if levels.dtype == np.uint32 and high >= 1 << 24:
        return (levels >> 24).astype(np.uint8)
    raise ValueError(f"its 32-bit values, from {low:g} to {high:g}, are in no known range; {_ASK}")
