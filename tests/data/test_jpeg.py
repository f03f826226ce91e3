"""JPEGs that libjpeg warns of: harmless ones have the pixels of the whole file, damaged ones are named."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import drawn, encoded
from PIL import Image, ImageOps

from dcgan.data import decoding
from dcgan.data.images import Pixels

PICTURE = drawn("RGB", 96, 96, 0)
WHOLE = encoded(PICTURE, "JPEG", quality=90)


def pixels(data: bytes) -> Pixels:
    return decoding.square(data, None, 3)


def reason(data: bytes) -> str:
    with pytest.raises(ValueError) as error:
        pixels(data)
    return str(error.value)


def inserted(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return segment(0xE1, tags.tobytes())


SCAN = WHOLE.index(b"\xff\xda")
HARMLESS = {
    "unknown JFIF revision": WHOLE[:11] + b"\7" + WHOLE[12:],
    "unknown Adobe transform": WHOLE[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\7") + WHOLE[20:],
    "unknown application data": inserted(WHOLE, 20, segment(0xEB, b"what is this")),
    "bad ICC marker": inserted(WHOLE, 20, segment(0xE2, b"ICC_PROFILE\0\x09\2abc")),
    "rubbish between markers": inserted(WHOLE, 20, b"\1\2\3"),
    "zeros before the end": inserted(WHOLE, len(WHOLE) - 2, bytes(37)),
    "rubbish after the end": WHOLE + b"rubbish" * 9,
    "no end": WHOLE[:-2],
    "parameters of a progressive scan": WHOLE[: SCAN + 12] + b"\0" + WHOLE[SCAN + 13 :],
    "rubbish as EXIF": inserted(WHOLE, 2, segment(0xE1, b"Exif\0\0rubbish")),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_a_warning_of_what_is_not_seen_costs_nothing(kind: str) -> None:
    assert HARMLESS[kind] != WHOLE
    assert np.array_equal(pixels(HARMLESS[kind]), pixels(WHOLE))


@pytest.mark.parametrize("kind", ["zeros before the end", "rubbish between markers", "no end"])
def test_several_warnings_and_a_turn(kind: str) -> None:
    data = HARMLESS[kind]
    data = inserted(data[:11] + b"\7" + data[12:], 2, exif())
    assert np.array_equal(pixels(data), np.rot90(pixels(WHOLE), -1))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "before", [b"", exif(), segment(0xE2, b"ICC_PROFILE\0\x09\2abc")], ids=["plain", "exif", "icc"]
)
def test_a_damaged_scan_is_named(before: bytes, progressive: bool) -> None:
    """Of which Pillow says nothing."""
    data = inserted(encoded(PICTURE, "JPEG", quality=90, progressive=progressive), 2, before)
    at = data.index(b"\xff\xda") + 2000
    data = data[:at] + bytes(200) + data[at + 200 :]
    assert Image.open(io.BytesIO(data)).convert("RGB").size == PICTURE.size
    assert reason(data).startswith("it is damaged: ")
    assert "extraneous bytes before marker" in reason(data) or "Huffman" in reason(data)


@settings(deadline=None, max_examples=40)
@given(st.booleans(), st.floats(0, 1))
def test_a_truncated_jpeg_is_whole_or_named(progressive: bool, share: float) -> None:
    data = encoded(PICTURE, "JPEG", progressive=progressive)
    try:
        assert np.array_equal(pixels(data[: int(2 + share * (len(data) - 2))]), pixels(data))
    except ValueError as error:
        assert str(error)


def test_a_progressive_jpeg_that_ends_between_two_scans_is_named() -> None:
    """It decodes without a warning once an end is added, but is blurred."""
    data = encoded(PICTURE, "JPEG", progressive=True)
    assert "premature end" in reason(data[: data.rindex(b"\xff\xda")])


def test_colours_of_which_one_scan_is_missing_are_named() -> None:
    """A sequential JPEG can hold each colour in a scan of its own."""
    first = WHOLE[:SCAN] + segment(0xDA, b"\1\1\0\0\x3f\0") + WHOLE[SCAN + 14 : -2]
    assert reason(first).startswith("it is damaged: ")


@pytest.mark.parametrize(("mode", "subsampling"), [("CMYK", 2), ("CMYK", 0)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_inks_and_rare_samplings_are_what_pillow_reads(mode: str, subsampling: int, orientation: int) -> None:
    data = inserted(encoded(PICTURE.convert(mode), "JPEG", subsampling=subsampling), 2, exif(orientation))
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(data), np.asarray(picture.convert("RGB")))


def test_what_libjpeg_cannot_decode_is_named() -> None:
    at = WHOLE.index(b"\xff\xc0") + 4
    assert reason(WHOLE[:at] + b"\x0c" + WHOLE[at + 1 :]).startswith("it cannot be decoded: unsupported")


def test_scans_without_end_are_refused() -> None:
    """Each is decoded over all pixels, and costs a few bytes."""
    data = encoded(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert "pixels, more than the limit of 2,000,000,000 pixels" in reason(data[:last] + data[last:-2] * 600)
