"""From a picture file's bytes to a face.

The definition of a face, in Pillow: apply the EXIF orientation, convert to RGB (to L for nc 1; what is
transparent becomes white), take the centred square of `crop_size`, then
`resize((image_size, image_size), BILINEAR, reducing_gap=None)`, which filters against aliasing: the filter of
the tutorials' `transforms.Resize`.

Two parts are done by faster code. JPEGs without oddities are decoded by simplejpeg, which wraps the libjpeg-turbo
that Pillow uses too: the same pixels. The resizing is torch's for uint8, in integers as Pillow's, and as near to the
exact filter: its pixels are within 1 level of Pillow's, but for one in millions that the two round to either side of
it, 2 apart; on average within 0.02 (tests hold both to that).
"""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from dcgan.data.images import Pixels

_MOST_PIXELS = 89_478_485  # Pillow's own line between a picture and a decompression bomb
_ORIENTED = (b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00")  # JPEGs that may say which side is up
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below, with a reason


def face(data: bytes, crop_size: int | None, image_size: int, nc: int) -> Pixels:
    """A picture file's bytes as a face, uint8 of shape (image_size, image_size, nc).

    Args:
        crop_size: side of the centred square in pixels; None: the largest that fits.

    Raises:
        ValueError: the bytes are no picture, are damaged, or hold too few or too many pixels.
    """
    faces = shrink(square(data, crop_size, nc)[None], image_size)
    return faces.reshape(faces.shape[1:])


def square(data: bytes, crop_size: int | None, nc: int) -> Pixels:
    """The centred square of a picture file, uint8 of shape (side, side, nc); it raises what `face` raises."""
    if not data:
        raise ValueError("the file is empty")
    pixels = _plain_jpeg(data, nc)
    if pixels is None:
        pixels = _by_pillow(data, nc)
    height, width = pixels.shape[:2]
    side = crop_size or min(height, width)
    if side > min(height, width):
        raise ValueError(f"{width}x{height} is smaller than the crop of {side}")
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def shrink(squares: Pixels, image_size: int) -> Pixels:
    """Squares (N, side, side, C) as faces (N, image_size, image_size, C), bilinearly with antialiasing."""
    batch = torch.from_numpy(squares).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(batch, (image_size, image_size), mode="bilinear", antialias=True)
    faces: Pixels = small.permute(0, 2, 3, 1).contiguous().numpy()
    return faces


def _plain_jpeg(data: bytes, nc: int) -> Pixels | None:
    """The pixels of an upright, undamaged JPEG in colour or grey; None: of anything else."""
    if not data.startswith(b"\xff\xd8") or any(mark in data for mark in _ORIENTED):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "RGB", "Gray") or height * width > _MOST_PIXELS:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:  # Pillow decides what is readable all the same
        return None
    return pixels if nc == 3 else np.array(Image.fromarray(pixels).convert("L"))[:, :, None]


def _by_pillow(data: bytes, nc: int) -> Pixels:
    """The pixels of whatever Pillow reads, (H, W, nc)."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
        picture = _to_mode(ImageOps.exif_transpose(picture), "L" if nc == 1 else "RGB")
    except UnidentifiedImageError:  # its own message holds an address in memory
        raise ValueError("it is no picture in a known format") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        raise ValueError(re.sub(r" at 0x[0-9a-f]+", "", str(error) or type(error).__name__).splitlines()[0]) from None
    return np.array(picture).reshape(picture.height, picture.width, nc)


def _to_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip 16 bits to 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert(mode)
