"""LSUN church_outdoor (Yu et al. 2015): 126,227 pictures as WebP in an LMDB, with 256 pixels on the short side."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import lmdb
import pandas as pd

from dcgan.data.fetching import PATIENT, File, Patience, fetch
from dcgan.data.index import Source, cut_off, take, write_index, zip_member
from dcgan.data.request import Request
from dcgan.system.progress import progress

SOURCE = Source(
    name="LSUN church_outdoor",
    licence="none stated by its authors; the pictures are from the web",
    citation="Yu, Seff, Zhang, Song, Funkhouser, Xiao: LSUN: Construction of a Large-Scale Image Dataset using Deep "
    "Learning with Humans in the Loop. arXiv 1506.03365, 2015",
    url="http://dl.yf.io/lsun/scenes",
)
# The authors publish no hashes; these are the hashes that TensorFlow Datasets verifies.
PUBLISHED = {
    "train": File(
        "church_outdoor_train_lmdb.zip",
        2_448_463_466,
        "91128ae026840ac0c5982b4445ab5fc4e092d6847cca76793b2b1a0815c2e74a",
        (f"{SOURCE.url}/church_outdoor_train_lmdb.zip",),
    ),
    "valid": File(
        "church_outdoor_val_lmdb.zip",
        5_957_308,
        "34635b7547a3e51a15f942a4a4082dd6bc9cca381a953515cb2275c0eed50584",
        (f"{SOURCE.url}/church_outdoor_val_lmdb.zip",),
    ),
}
ARCHIVE = "lsun_church.zip"


def bring(raw: Path, request: Request) -> None:
    """Prepares the data set; called by the stage `download`."""
    prepare(request.downloads, raw, request.size)


def prepare(
    downloads: Path,
    raw: Path,
    limit: int | None,
    files: Mapping[str, File] = PUBLISHED,
    patience: Patience = PATIENT,
) -> None:
    """Fetches and verifies both zips in `downloads`, and copies their pictures into the new folder `raw`.

    The pictures are copied byte for byte. The valid split is the source's own. The source publishes no test pictures,
    so 5 % of its train split become the test split.

    Raises:
        UserError: a file cannot be fetched, or is not the published one.
    """
    fetch(list(files.values()), downloads, SOURCE.url, patience)
    raw.mkdir(parents=True)
    rows: list[tuple[str, str]] = []
    with zipfile.ZipFile(raw / ARCHIVE, "w") as archive:
        for split, file in files.items():
            for name, picture in _pictures(downloads / file.name, split, raw):
                archive.writestr(zip_member(name), picture)
                rows.append((name, split))
    pictures = pd.DataFrame(rows, columns=["file", "split"])
    pictures["split"] = cut_off("test", pictures)
    pictures.insert(0, "archive", ARCHIVE)
    write_index(raw, take(pictures, limit), SOURCE, len(pictures))


def _pictures(path: Path, split: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yields names and bytes of the pictures in a zip with an LMDB.

    LMDB maps its file into memory, so the file is extracted into a temporary folder in `scratch`.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        with zipfile.ZipFile(path) as source:
            (name,) = (name for name in source.namelist() if name.endswith("data.mdb"))
            database = Path(source.extract(name, folder))
        with lmdb.open(str(database.parent), readonly=True, lock=False) as environment, environment.begin() as data:
            count = data.stat()["entries"]
            for key, value in progress(data.cursor(), count, f"reading {split}", "pictures"):
                yield f"{split}/{key.decode()}.webp", value
