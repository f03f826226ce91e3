"""Decodes JPEGs with simplejpeg, and refuses those in which libjpeg finds damage.

simplejpeg wraps libjpeg-turbo, which Pillow also uses, and gives the same pixels. Pillow hides the warnings of libjpeg,
and returns what it makes of a damaged scan as if the picture were whole; simplejpeg raises them as errors. Some concern
nothing that is seen, such as an unknown version in the header. So after a warning the JPEG is decoded again without
what is not seen, and it is damaged if a warning remains.

Changed bits in a scan are often a valid scan of another picture (three of four flipped bits, in a baseline JPEG).
Nothing in the format distinguishes such a picture from a whole one. The few JPEGs whose colours are sampled in a way
that simplejpeg does not support are decoded by Pillow, without a check.
"""

from __future__ import annotations

import io
import re

import numpy as np
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from dcgan.data.images import Pixels

START = b"\xff\xd8"
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_SEQUENTIAL = (0xC0, 0xC1)  # frames that one scan can hold
_FRAMES = (*_SEQUENTIAL, 0xC2, 0xC9, 0xCA)
_MOST_SCANNED = 2_000_000_000  # pixels times scans, a limit for the time; encoders write about ten scans


def decode(data: bytes, most_pixels: int) -> Pixels:
    """Returns the pixels (H, W, 3) of a JPEG as it is stored, without its EXIF orientation.

    Raises:
        ValueError: it is damaged, or has more than `most_pixels`.
    """
    messages: list[str] = []
    while True:
        try:
            return _strictly(data, most_pixels)
        except _Warned as error:  # the first message hides the others
            messages.append(str(error))
        repaired = _without_what_is_not_seen(data, messages[-1])
        if repaired == data:
            break
        data = repaired
    last = messages[0] if messages[0].startswith("Premature end") else messages[-1]
    words = re.sub("^Corrupt JPEG data: |^tj.*?: ", "", last)
    kind = "cannot be decoded" if words.startswith("Unsupported") else "is damaged"
    raise ValueError(f"it {kind}: {words[:1].lower()}{words[1:]}")


def check_size(width: int, height: int, most_pixels: int) -> None:
    """Raises ValueError if a picture has more than `most_pixels`."""
    if height * width > most_pixels:
        raise ValueError(f"it has {width}x{height} pixels, more than the limit of {most_pixels:,} pixels")


class _Warned(Exception):
    """Holds a message of libjpeg."""


def _strictly(data: bytes, most_pixels: int) -> Pixels:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        rare = False
    except (KeyError, ValueError) as error:
        rare = isinstance(error, KeyError) or "subsampling" in str(error)
        if not rare:
            raise _Warned(str(error)) from None
        width, height = _size(data)
    check_size(width, height, most_pixels)
    most_scans = len(data) // 10  # a scan needs ten bytes; counting takes time
    if most_scans * height * width > _MOST_SCANNED and (scans := data.count(_SCAN)) * height * width > _MOST_SCANNED:
        raise ValueError(
            f"it has {scans} scans of {width}x{height} pixels, more than the limit of {_MOST_SCANNED:,} pixels"
        )
    try:
        if rare:
            return np.array(JpegImageFile(io.BytesIO(data)).convert("RGB"))
        if colours not in ("CMYK", "YCCK"):
            pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
            return pixels
        inks = 255 - simplejpeg.decode_jpeg(data, "CMYK", strict=True)  # stored inverted, as Photoshop does
    except (OSError, ValueError) as error:
        raise _Warned(str(error)) from None
    return np.array(Image.fromarray(inks, "CMYK").convert("RGB"))


def _size(data: bytes) -> tuple[int, int]:
    """Returns width and height of a JPEG whose sampling of the colours simplejpeg does not know."""
    try:
        return JpegImageFile(io.BytesIO(data)).size
    except Exception:  # it parses all metadata
        raise _Warned("its header cannot be read") from None


def _without_what_is_not_seen(data: bytes, warning: str) -> bytes:
    """Returns the JPEG with the markers that determine its pixels, repaired where that cannot change a pixel.

    It has no comments, no application data but what determines the colours, nothing between the markers, no zeros that
    pad the scan, and an end.
    """
    segments, at = _segments(data)
    frame = next((segment for segment in segments if segment[1] in _FRAMES), bytes(10))
    kept = [_repaired(segment, frame) for segment in segments if _is_seen(segment)]
    end = data.find(_END, at)
    if end < 0:
        whole = frame[1] in _SEQUENTIAL and segments and segments[-1][4:5] == frame[9:10]
        return b"".join([START, *kept, data[at:], _END if whole else b""])
    scans = data[at:end]
    padding = re.search(r" (\d+) extraneous bytes before marker 0xd9", warning)
    if padding and not scans[-int(padding[1]) :].strip(b"\0"):
        scans = scans[: -int(padding[1])]
    return b"".join([START, *kept, scans, _END])


def _segments(data: bytes) -> tuple[list[bytes], int]:
    """Returns the segments of a JPEG up to the header of its first scan, and where they end."""
    segments, at = [], len(START)
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        if data[at + 1] in (0x00, 0xFF):  # no marker, or a byte that fills up
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        segments.append(data[at:end])
        at = end
        if segments[-1].startswith(_SCAN):
            return segments, at
    return segments, len(data)


def _is_seen(segment: bytes) -> bool:
    if segment[1] in (0xE0, 0xEE):
        return segment[4:].startswith((b"JFIF\0", b"Adobe"))
    return not 0xE0 <= segment[1] <= 0xFE


def _repaired(segment: bytes, frame: bytes) -> bytes:
    """Replaces values that libjpeg warns of by those that it then assumes."""
    if segment[4:].startswith(b"JFIF\0"):
        return segment[:9] + b"\1\1" + segment[11:]  # its version
    if segment[4:].startswith(b"Adobe") and segment[15:16] > b"\2":
        return segment[:15] + (b"\2" if frame[9:10] == b"\4" else b"\1") + segment[16:]  # YCCK or YCbCr
    if segment.startswith(_SCAN) and frame[1] in _SEQUENTIAL:
        return segment[:-3] + b"\0\x3f\0"  # all coefficients at full precision
    return segment
