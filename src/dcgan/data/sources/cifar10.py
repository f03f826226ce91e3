"""CIFAR-10 (Krizhevsky 2009) in its binary version, without pickle: 60,000 pictures of 32x32 pixels in ten classes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dcgan.data.fetching import PATIENT, File, Patience, fetch
from dcgan.data.index import Source, cut_off, take, write_index, zip_member
from dcgan.data.request import Request

SOURCE = Source(
    name="CIFAR-10",
    licence="none stated by its authors",
    citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images. 2009",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
)
# The MD5 is the one on the page of the data set.
PUBLISHED = File(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
ARCHIVE = "cifar10.zip"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the red, green and blue planes


def bring(raw: Path, request: Request) -> None:
    """Prepares the data set; called by the stage `download`."""
    prepare(request.downloads, raw, request.size)


def prepare(
    downloads: Path, raw: Path, limit: int | None, file: File = PUBLISHED, patience: Patience = PATIENT
) -> None:
    """Fetches and verifies the archive in `downloads`, and writes its pictures as PNGs into the new folder `raw`.

    The test split is the source's own; 5 % of the source's training pictures become the valid split.

    Raises:
        UserError: the archive cannot be fetched, or is not the published one.
    """
    fetch([file], downloads, SOURCE.url, patience)
    raw.mkdir(parents=True)
    rows = []
    with tarfile.open(downloads / file.name) as tar, zipfile.ZipFile(raw / ARCHIVE, "w") as archive:
        for entry in sorted(tar.getmembers(), key=lambda member: member.name):
            if not entry.name.endswith(".bin"):
                continue
            data = tar.extractfile(entry)
            assert data is not None, "a .bin member is a file"
            records = np.frombuffer(data.read(), np.uint8).reshape(-1, _RECORD)
            batch = Path(entry.name).stem
            for i, record in enumerate(records):
                name = f"{batch}/{i:05d}.png"
                out = io.BytesIO()
                Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(out, "PNG")
                archive.writestr(zip_member(name), out.getvalue())
                rows.append((name, "test" if batch == "test_batch" else "train", int(record[0])))
    pictures = pd.DataFrame(rows, columns=["file", "split", "label"])
    pictures["split"] = cut_off("valid", pictures)
    for i, name in enumerate(CLASSES):
        pictures[name] = np.where(pictures["label"] == i, 1, -1).astype(np.int8)
    pictures.insert(0, "archive", ARCHIVE)
    write_index(raw, take(pictures.drop(columns="label"), limit), SOURCE, len(pictures))
