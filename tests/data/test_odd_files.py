"""A folder with every odd picture file that people have: each becomes a face of its colour, or is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from pictures import claiming_png, encoded
from PIL import Image

from dcgan.data import card as data_card
from dcgan.data import images, packing
from dcgan.data.index import split_by_name
from dcgan.data.sources import folder

COLOUR = (200, 100, 50)
GREY = 124  # its luma, ITU-R 601


def plain(mode: str = "RGB", size: tuple[int, int] = (70, 50)) -> Image.Image:
    return Image.new("RGB", size, COLOUR).convert(mode)


def rotated() -> bytes:
    """A wide picture that EXIF says is tall: only its upper square is of the colour when it is seen upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(plain(), "JPEG", exif=exif, quality=95)


def see_through() -> Image.Image:
    picture = plain("RGBA")
    picture.putalpha(0)
    return picture


def claiming_jpeg(side: int) -> bytes:
    """A JPEG whose header claims another size than it has."""
    data = encoded(plain(), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]


def without_checksum() -> bytes:
    data = bytearray(encoded(plain()))
    at = data.index(b"IDAT") + 6
    data[at] ^= 255
    return bytes(data)


def half(form: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    return data[: len(data) // 2]


class Odd(NamedTuple):
    name: str
    data: bytes | Callable[[], bytes]
    colour: tuple[int, int, int] | str  # of the face, or a word of the reason


def pages(form: str) -> bytes:
    """The first of two pictures is the one."""
    return encoded(plain(), form, save_all=True, append_images=[Image.new("RGB", (70, 50), "blue")])


ODD = [
    Odd("baseline.jpg", encoded(plain(), "JPEG"), COLOUR),
    Odd("progressive.jpg", encoded(plain(), "JPEG", progressive=True), COLOUR),
    Odd("full chroma.jpeg", encoded(plain(), "JPEG", subsampling=0), COLOUR),
    Odd("stored as rgb.jpg", encoded(plain(), "JPEG", keep_rgb=True), COLOUR),
    Odd("grey.JPG", encoded(plain("L"), "JPEG"), (GREY,) * 3),
    Odd("cmyk.jpg", encoded(plain("CMYK"), "JPEG"), COLOUR),
    Odd("turned.jpg", rotated(), COLOUR),
    Odd("rubbish after it.jpg", encoded(plain(), "JPEG") + b"rubbish" * 99, COLOUR),
    Odd("several.jpg", pages("MPO"), COLOUR),
    Odd("ordinary.png", encoded(plain()), COLOUR),
    Odd("palette.png", encoded(plain().quantize(8)), COLOUR),
    Odd("seen through.png", encoded(see_through()), (255,) * 3),
    Odd("grey and alpha.png", encoded(plain("LA")), (GREY,) * 3),
    Odd("black and white.png", encoded(Image.new("1", (70, 50), 1)), (255,) * 3),
    Odd("sixteen bits.png", encoded(Image.fromarray(np.full((50, 70), GREY << 8, np.uint16))), (GREY,) * 3),
    Odd("named.png", encoded(plain(), "JPEG"), COLOUR),
    Odd("animated.png", pages("PNG"), COLOUR),
    Odd("really a gif.png", encoded(plain(), "GIF"), COLOUR),
    Odd("lossy.webp", encoded(plain(), "WebP"), COLOUR),
    Odd("lossless.webp", encoded(plain("RGBA"), "WebP", lossless=True), COLOUR),
    Odd("animated.webp", pages("WebP"), COLOUR),
    Odd("ordinary.bmp", encoded(plain(), "BMP"), COLOUR),
    Odd("palette.bmp", encoded(plain().quantize(8), "BMP"), COLOUR),
    Odd("lzw.tiff", encoded(plain(), "TIFF", compression="tiff_lzw"), COLOUR),
    Odd("cmyk.tif", encoded(plain("CMYK"), "TIFF"), COLOUR),
    Odd("several pages.TIFF", pages("TIFF"), COLOUR),
    Odd("sixteen bits.tiff", encoded(Image.fromarray(np.full((50, 70), GREY << 8, np.uint16)), "TIFF"), (GREY,) * 3),
    Odd("deep/er/and/deeper/ünïcödé ☺ 'quoted' .png", encoded(plain()), COLOUR),
    Odd("a strip.png", encoded(plain(size=(3000, 9))), COLOUR),
    Odd("one pixel.png", encoded(plain(size=(1, 1))), COLOUR),
    Odd("empty.jpg", b"", "the file is empty"),
    Odd("a text.jpg", b"not a picture", "not a picture in a known format"),
    Odd("a page.png", b"<!doctype html><title>404</title>", "not a picture in a known format"),
    Odd("half.jpg", half("JPEG"), "premature end of JPEG file"),
    Odd("half.png", half("PNG"), "truncated"),
    Odd("half.webp", half("WebP"), "could not create decoder object"),
    Odd("altered.png", without_checksum(), "broken data stream"),
    Odd("a bomb.png", claiming_png(60_000, 60_000), "more than the limit of 89,478,485 pixels"),
    Odd("a bomb.jpg", claiming_jpeg(65_000), "65000x65000 pixels, more than the limit of 89,478,485 pixels"),
]


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The faces of a folder with all of them, and the reasons why the others are none."""
    root = tmp_path_factory.mktemp("odd")
    for odd in ODD:
        path = root / "folder" / odd.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(odd.data if isinstance(odd.data, bytes) else odd.data())
    for name in ("notes.txt", "drawing.svg", "Thumbs.db", "._of a mac.jpg"):  # no pictures
        (root / "folder" / name).write_text("x")
    (root / "folder" / "a folder.jpg").mkdir()
    (root / "folder" / "a broken link.jpg").symlink_to("nowhere")
    folder.write_inventory(root / "folder", root / "inventory.parquet")
    folder.prepare(root / "folder", root / "inventory.parquet", root / "raw", None)
    found = packing.pack(root / "raw", root / "faces", None, 32, 3, 1.0)
    card = data_card.describe(root / "raw", root / "faces", found, {})
    return root / "faces", {row["file"]: row["reason"] for row in card["bad"]}


def test_every_kind_is_a_face_or_named(cropped: tuple[Path, dict[str, str]]) -> None:
    faces, reasons = cropped
    assert "cannot be read" in reasons.pop("a broken link.jpg")
    assert set(reasons) | set(pd.read_parquet(faces / "faces.parquet")["file"]) == {odd.name for odd in ODD}
    assert len(ODD) >= 30


@pytest.mark.parametrize("odd", ODD, ids=[odd.name for odd in ODD])
def test_an_odd_file_is_what_a_viewer_shows_or_has_a_reason(cropped: tuple[Path, dict[str, str]], odd: Odd) -> None:
    faces, reasons = cropped
    if isinstance(odd.colour, str):
        assert odd.colour in reasons[odd.name] and len(reasons[odd.name].splitlines()) == 1
        return
    assert odd.name not in reasons
    (split,) = split_by_name([odd.name])
    table = pd.read_parquet(faces / "faces.parquet")
    number = table[table["split"] == split]["file"].tolist().index(odd.name)
    face = images.open_faces(faces, split)[number].astype(int)
    assert np.abs(face - odd.colour).max() <= 3
