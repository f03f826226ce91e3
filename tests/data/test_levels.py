"""Levels of more than 8 bits: the grey that a viewer shows, or a reason."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pictures import drawn, encoded
from PIL import Image, ImageCms

from dcgan.data import decoding
from dcgan.data.images import Pixels

GREYS = np.linspace(0, 255, 32 * 32).reshape(32, 32).round().astype(np.uint8)
FORMATS = {"u": 1, "i": 2, "f": 3}  # TIFF's numbers


def tiff(levels: npt.NDArray[Any], photometric: int = 1, **tags: int) -> bytes:
    """An uncompressed TIFF of grey levels, or of bands (C, H, W) that are stored one after the other."""
    height, width = levels.shape[-2:]
    bands = levels.shape[0] if levels.ndim == 3 else 1
    bits, size = levels.itemsize * 8, levels.nbytes // bands
    count = 10 + len(tags)
    strips = struct.pack(f"<{bands}I", *(8 + 2 + 12 * count + 4 + 3 * 4 * bands + i * size for i in range(bands)))
    later, rest = 8 + 2 + 12 * count + 4, strips + struct.pack(f"<{bands}I", *[size] * bands) + bytes(4 * bands)
    entries = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, bits),
        259: (3, 1, 1),
        262: (3, 1, photometric),
        273: (4, bands, later if bands > 1 else 8 + 2 + 12 * count + 4 + 12),
        277: (3, 1, bands),
        279: (4, bands, later + 4 * bands if bands > 1 else size),
        284: (3, 1, 2 if bands > 1 else 1),
        339: (3, 1, FORMATS[levels.dtype.kind]),
    } | {int(tag[1:]): (3, 1, value) for tag, value in tags.items()}
    directory = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, count) + directory + bytes(4) + rest + levels.tobytes()


def grey(data: bytes) -> Pixels:
    face: Pixels = decoding.face(data, None, 32, 1)[:, :, 0]
    return face


def reason(data: bytes) -> str:
    with pytest.raises(ValueError) as error:
        decoding.face(data, None, 32, 3)
    return str(error.value)


READABLE = {
    "16 bits": tiff(GREYS.astype(np.uint16) * 257),
    "16 bits, 0 is white": tiff(65535 - GREYS.astype(np.uint16) * 257, photometric=0),
    "floats in 0..1": tiff((GREYS / np.float32(255)).astype(np.float32)),
    "floats in 0..1, 0 is white": tiff((1 - GREYS / np.float32(255)).astype(np.float32), photometric=0),
    "floats in 0..255": tiff(GREYS.astype(np.float32)),
    "32 bits, unsigned": tiff(GREYS.astype(np.uint32) * (2**24 + 2**16)),
    "32 bits, 0..255": tiff(GREYS.astype(np.int32)),
    "PGM of 16 bits": b"P5 32 32 65535\n" + (GREYS.astype(np.uint16) * 257).astype(">u2").tobytes(),
    "JPEG 2000 of 16 bits": encoded(Image.fromarray(GREYS.astype(np.uint16) * 257), "JPEG2000"),
}


@pytest.mark.parametrize("kind", READABLE)
def test_levels_become_eight_bits(kind: str) -> None:
    assert np.array_equal(grey(READABLE[kind]), GREYS)


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (GREYS.astype(np.float32) * 275 - 1.25, "from -1.25 to 70123.8, are in no known range; convert it to 8 bits"),
        (np.where(GREYS > 9, np.nan, GREYS).astype(np.float32), "from nan to nan,"),
        (GREYS.astype(np.int32) - 1, "from -1 to 254,"),
        (GREYS.astype(np.int32) * 256, "from 0 to 65280,"),
        ((GREYS > 9).astype(np.int32), "from 0 to 1,"),
        (GREYS.astype(np.int16), "its values are signed integers"),
        (GREYS.astype(np.int8), "its values are signed integers"),
    ],
)
def test_levels_without_a_known_white_are_named(levels: npt.NDArray[Any], words: str) -> None:
    assert words in reason(tiff(levels))


def test_bands_that_pillow_would_read_wrongly_are_named() -> None:
    bands = np.stack([GREYS] * 3)
    assert np.array_equal(grey(tiff(bands, photometric=2)), GREYS)
    assert "its 16-bit channels are stored in separate planes" in reason(tiff(bands.astype(np.uint16), photometric=2))


def test_the_preview_of_a_raw_file_is_not_taken_for_it() -> None:
    assert "preview" in reason(tiff(GREYS, _254=1))


def test_one_transparent_level_of_sixteen_bits_becomes_white() -> None:
    levels = np.full((32, 32), 300, np.uint16)
    levels[:, 16:] = 40_000
    face = grey(encoded(Image.fromarray(levels), transparency=300))
    assert (face[:, :16] == 255).all() and (face[:, 16:] == 40_000 >> 8).all()


def test_lab_is_the_colour_that_it_names() -> None:
    picture = drawn("RGB", 32, 32, 0)
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    stored = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    assert stored is not None
    face = decoding.face(encoded(stored, "TIFF"), None, 32, 3).astype(int)
    assert np.abs(face - np.asarray(picture)).mean() < 1.5  # 8 bits of Lab are coarser than those of RGB
    flat = Image.merge("LAB", [Image.new("L", (32, 32), level) for level in (135, 128, 128)])  # lightness 52.9
    assert np.abs(decoding.face(encoded(flat, "TIFF"), None, 32, 3).astype(int) - 126).max() <= 1
