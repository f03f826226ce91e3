"""Pictures drawn for tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def drawn(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours with noise on them, in any of Pillow's modes."""
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    ramp = np.linspace(0, 200, height * width * 4).reshape(height, width, 4)
    values = (ramp + random.integers(0, 56, (height, width, 4))).astype(np.uint8)
    if mode == "CMYK":
        return Image.fromarray(values, "CMYK")
    return Image.fromarray(values, "RGBA").convert(mode)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def claiming_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
