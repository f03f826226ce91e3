"""Files as the authors of data sets publish them, of random pictures."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from standin import StandIn

from dcgan.data.fetching import File
from dcgan.data.sources import celeba


def encoded(form: str, seed: int, size: tuple[int, int] = (40, 48)) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def published(downloads: Path, *urls: str) -> list[File]:
    """The files of a folder, as if their authors published them with these hashes, and places that hold them."""
    return [
        File(
            path.name,
            path.stat().st_size,
            hashlib.md5(path.read_bytes()).hexdigest(),
            tuple(f"{u}/{path.name}" for u in urls),
        )
        for path in sorted(downloads.iterdir())
        if path.is_file()
    ]


def moved(downloads: Path, server: StandIn) -> list[File]:
    """Takes the files of a folder away; only the stand-in has them then."""
    files = published(downloads, server.url)
    server.files = contents(downloads)
    shutil.rmtree(downloads)
    return files


def contents(raw: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(raw.iterdir()) if path.is_file()}


def stand_in(downloads: Path, pictures: int = 12) -> list[File]:
    """Files written as CelebA's authors write them."""
    downloads.mkdir()
    names = [f"{i + 1:06d}.jpg" for i in range(pictures)]
    with zipfile.ZipFile(downloads / celeba.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("img_align_celeba/", b"")
        for i, name in enumerate(names):
            archive.writestr(f"img_align_celeba/{name}", encoded("JPEG", i, (178, 218)))
    attributes = ["Smiling", "Young", "5_o_Clock_Shadow"]
    rows = [f"{name} {'-1  1 -1' if i % 2 else ' 1 -1 -1'}" for i, name in enumerate(names)]
    lists = {
        celeba.ATTRIBUTES: [str(pictures), " ".join(attributes) + " ", *rows],
        celeba.PARTITION: [f"{name} {i % 3}" for i, name in enumerate(names)],
        celeba.LANDMARKS: [str(pictures), "lefteye_x lefteye_y ", *(f"{name} 69  109 " for name in names)],
        celeba.BOXES: [str(pictures), "image_id x_1 y_1 width height", *(f"{name}  95  71 226 313" for name in names)],
        celeba.IDENTITIES: [f"{name} {i}" for i, name in enumerate(names)],
    }
    for name, lines in lists.items():
        (downloads / name).write_text("\n".join(lines) + "\n")
    return published(downloads)
