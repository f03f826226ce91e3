"""Part of `make bench`: the crop of a CelebA-shaped archive, beside the tutorial's way to read such pictures.

202,599 pictures of CelebA's size, JPEG settings and bytes are made on the spot, from a few hundred drawn ones. Both
sides alternate on the same share of them; then all are cropped, and once more while the memory of all processes is
watched.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from sampled import sampled
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from dcgan.data import images, packing
from dcgan.data.index import write_index, zip_member
from dcgan.data.sources import avatars, celeba
from dcgan.system.processor import cores
from dcgan.system.progress import say
from dcgan.training.batches import batches

PICTURES, SHARE, ROUNDS = 202_599, 40_000, 3
DIFFERENT = 400


def photographs() -> list[bytes]:
    """Avatars with soft noise on them, so that their JPEGs have about the 7.1 kB of CelebA's photographs."""
    random = np.random.default_rng(1)
    files = []
    for i in range(DIFFERENT):
        face = Image.open(io.BytesIO(avatars.jpeg(avatars.face(1, i)))).convert("RGB")
        noise = Image.fromarray(random.integers(64, 192, (28, 23, 3), dtype=np.uint8))
        soft = np.asarray(noise.resize(face.size, Image.Resampling.BICUBIC), np.int16) - 128
        pixels = (np.asarray(face) + soft // 2).clip(0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=75)
        files.append(out.getvalue())
    return files


def archive(raw: Path, files: list[bytes], count: int) -> Path:
    """A folder as the download leaves it, with the first `count` pictures of an endless repetition of `files`."""
    raw.mkdir()
    names = [f"{celeba.FOLDER}/{i + 1:06d}.jpg" for i in range(count)]
    with zipfile.ZipFile(raw / celeba.ARCHIVE, "w") as opened:
        for name, data in zip(names, itertools.cycle(files), strict=False):
            opened.writestr(zip_member(name), data, zipfile.ZIP_DEFLATED)
    write_index(raw, pd.DataFrame({"archive": celeba.ARCHIVE, "file": names, "split": "train"}), avatars.SOURCE)
    return raw


def unpacked(raw: Path, folder: Path) -> Path:
    with zipfile.ZipFile(raw / celeba.ARCHIVE) as opened:
        opened.extractall(folder)
    return folder


def crop(raw: Path, faces: Path) -> None:
    if faces.exists():
        shutil.rmtree(faces)
    packing.pack(raw, faces, None, 64, 3, 0.0)


def first_batch(faces: Path) -> None:
    """What a training does before its first step."""
    opened = images.open_faces(faces, "train")
    next(batches(opened, 128, seed=1, first_step=0, steps=1, device=torch.device("cpu")))


def tutorial(folder: Path) -> None:
    """The DCGAN tutorial's data loader, at its batch size."""
    steps = [transforms.Resize(64), transforms.CenterCrop(64), transforms.ToTensor()]
    normalize = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    data = ImageFolder(str(folder), transform=transforms.Compose([*steps, normalize]))
    for _ in DataLoader(data, batch_size=128, shuffle=True, num_workers=2):
        pass


def seconds(function: object, *arguments: Path) -> float:
    assert callable(function)
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def anonymous() -> int:
    """The anonymous memory (bytes) of this process and its children; what forks share counts once."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(OSError):
            memory = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) * 1024 for line in memory.splitlines() if "Pss_Anon" in line)
    return total


def main() -> None:
    files = photographs()
    print(f"pictures of {statistics.mean(map(len, files)):.0f} bytes on average, {cores()} cores")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        scratch = Path(name)
        share = archive(scratch / "share", files, SHARE)
        loose = unpacked(share, scratch / "loose")
        times: dict[str, list[float]] = {"ours": [], "tutorial": []}
        for _ in range(ROUNDS):
            times["ours"].append(seconds(crop, share, scratch / "faces"))
            times["tutorial"].append(seconds(tutorial, loose))
        rates = {side: SHARE / statistics.median(values) for side, values in times.items()}
        ratio = statistics.median(t / o for o, t in zip(times["ours"], times["tutorial"], strict=True))
        print(
            f"crop of {SHARE} pictures: {rates['ours']:.0f} pictures/s, the tutorial's loader {rates['tutorial']:.0f}, "
            f"ratio {ratio:.2f}"
        )
        say(f"making an archive of {PICTURES} pictures")
        everything = archive(scratch / "all", files, PICTURES)
        os.sync()  # otherwise the system would still be writing the archive while it is cropped
        took = seconds(crop, everything, scratch / "faces")
        with sampled(anonymous) as samples:  # once more, since watching takes time
            crop(everything, scratch / "faces")
        print(
            f"crop of {PICTURES} pictures: {took:.1f} s, {PICTURES / took:.0f} pictures/s, "
            f"anonymous memory of all processes at most {max(samples) / 1e6:.0f} MB"
        )
        before = anonymous()
        took = seconds(first_batch, scratch / "faces")
        print(
            f"opening them and reading a batch: {took:.2f} s, anonymous memory {(anonymous() - before) / 1e6:+.0f} MB"
        )


if __name__ == "__main__":
    main()
