"""Turns the bytes of a picture file into a face.

A face is defined by these steps in Pillow: take the first frame or page, apply the EXIF orientation, put transparent
pictures on white, convert to RGB (to L if nc is 1), take the centred square of `crop_size`, then call
`resize((image_size, image_size), BILINEAR, reducing_gap=None)`. This resize filters against aliasing. It is the filter
of the tutorials' `transforms.Resize`. Colour profiles are not applied.

Faster code does two of the steps. simplejpeg decodes JPEGs, to the same pixels as Pillow. torch resizes the uint8
pixels with integer arithmetic, as Pillow does, and is equally close to the exact filter. Its pixels differ from
Pillow's by at most 1 level, except that about one in millions differs by 2 because the two libraries round in opposite
directions. The mean difference is at most 0.02. Tests check both limits.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator

import numpy as np
import pillow_heif
import torch
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dcgan.data import jpeg
from dcgan.data.images import Pixels
from dcgan.data.levels import misread, to_eight_bits

# Pillow's other formats hold no photographs, or start other programs, as EPS does.
FORMATS = ("PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM")
_MOST_PIXELS = 89_478_485  # Pillow warns of a decompression bomb above this limit
_ORIENTED = (b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00")  # metadata of a JPEG that may hold an orientation
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # rejected below, with a reason
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of metadata
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def face(data: bytes, crop_size: int | None, image_size: int, nc: int) -> Pixels:
    """Turns the bytes of a picture file into a face, uint8 of shape (image_size, image_size, nc).

    Args:
        crop_size: side of the centred square in pixels; None: the largest that fits.

    Raises:
        ValueError: the bytes are not a picture, are damaged, or have too few or too many pixels.
    """
    faces = shrink(square(data, crop_size, nc)[None], image_size)
    return faces.reshape(faces.shape[1:])


def square(data: bytes, crop_size: int | None, nc: int) -> Pixels:
    """Returns the centred square of a picture file, uint8 of shape (side, side, nc); raises the errors of `face`."""
    if not data:
        raise ValueError("the file is empty")
    pixels = _of_jpeg(data, nc) if data.startswith(jpeg.START) else _of_other(data, nc)
    height, width = pixels.shape[:2]
    side = crop_size or min(height, width)
    if side > min(height, width):
        raise ValueError(f"its {width}x{height} pixels are smaller than crop_size: {side}")
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def shrink(squares: Pixels, image_size: int) -> Pixels:
    """Resizes squares (N, side, side, C) to faces (N, image_size, image_size, C), bilinearly with antialiasing."""
    batch = torch.from_numpy(squares).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(batch, (image_size, image_size), mode="bilinear", antialias=True)
    faces: Pixels = small.permute(0, 2, 3, 1).contiguous().numpy()
    return faces


def _of_jpeg(data: bytes, nc: int) -> Pixels:
    """Returns the pixels (H, W, nc) of a JPEG."""
    pixels = jpeg.decode(data, _MOST_PIXELS)
    turn = _turn_of_jpeg(data) if any(mark in data for mark in _ORIENTED) else None
    if turn is None and nc == 3:
        return pixels
    picture = Image.fromarray(pixels)
    return _converted(picture if turn is None else picture.transpose(turn), nc)


def _turn_of_jpeg(data: bytes) -> Image.Transpose | None:
    try:
        return _turn(JpegImageFile(io.BytesIO(data)))
    except Exception:  # it parses all metadata
        return None


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """Returns how to turn a picture upright; None: not at all. Nobody sees what else is wrong with its EXIF."""
    try:
        return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's parsers raise nearly any exception on damaged data
        return None


def _of_other(data: bytes, nc: int) -> Pixels:
    """Returns the pixels (H, W, nc) of a file in another format."""
    try:
        picture = _loaded(data)
    except _Damaged:
        if (essence := _without_metadata(data)) == data:
            raise
        picture = _loaded(essence)
    turn = _turn(picture)
    picture = to_eight_bits(picture)
    return _converted(picture if turn is None else picture.transpose(turn), nc)


class _Damaged(ValueError):
    """A decoder of Pillow failed."""


def _loaded(data: bytes) -> Image.Image:
    """Returns the first frame or page of a picture, with its pixels in the order of the file.

    Raises:
        _Damaged: Pillow cannot read it.
        ValueError: it has too many pixels, or holds something that Pillow would read wrongly.
    """
    with _named():
        source = Image.open(io.BytesIO(data), formats=FORMATS)
    jpeg.check_size(source.width, source.height, _MOST_PIXELS)
    with _named():
        reason = misread(source) if isinstance(source, TiffImageFile) else ""
    if reason:
        raise ValueError(reason)
    with _named():
        frame = source.tile[0].extents if source.format == "GIF" else None
        source.load()
        return source if frame in (None, (0, 0, *source.size)) else _on_canvas(source, frame)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Turns the errors of Pillow's decoders, which are of nearly any class, into a reason."""
    try:
        yield
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than the limit of {_MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:  # Pillow's message contains a memory address
        raise _Damaged("it is not a picture in a known format, or damaged at its beginning") from None
    except (OSError, SyntaxError) as error:  # these hold a sentence, others what Python could not do
        words = re.sub(r" at 0x[0-9a-f]+", "", str(error)).split("\n")[0]
        raise _Damaged(f"it is damaged: {words}") from None
    except Exception:
        raise _Damaged("it is damaged") from None


def _on_canvas(picture: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    """Leaves transparent what the first frame of a GIF does not cover, as viewers do."""
    canvas = Image.new("RGBA", picture.size)
    canvas.paste(picture.crop(frame).convert("RGBA"), frame[:2])
    return canvas


def _without_metadata(data: bytes) -> bytes:
    """Removes from a PNG what does not determine its pixels, and hides the EXIF of AVIF and HEIC."""
    if data[4:8] == b"ftyp":
        return data.replace(b"Exif", b"none")  # the kind of an item that readers do not know, and skip
    if not data.startswith(b"\x89PNG"):
        return data
    kept, at = [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _converted(picture: Image.Image, nc: int) -> Pixels:
    """Returns the pixels (H, W, nc) of a picture, on white where it is transparent."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("L" if nc == 1 else "RGB")
    return np.array(picture).reshape(picture.height, picture.width, nc)
