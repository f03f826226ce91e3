"""LSUN church_outdoor (Yu et al. 2015): 126,227 pictures of 256 pixels on the short side, WebP in an LMDB."""

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
# Its authors publish no hashes: these are the ones that TensorFlow Datasets verifies.
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
    """What the stage `download` calls."""
    prepare(request.downloads, raw, request.size)


def prepare(
    downloads: Path,
    raw: Path,
    limit: int | None,
    files: Mapping[str, File] = PUBLISHED,
    patience: Patience = PATIENT,
) -> None:
    """Brings both zips to `downloads`, verified, and copies their pictures, byte for byte, into the new folder `raw`.

    The valid split is the source's; it publishes no test pictures, so 5 % of the train split are cut off.

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
    write_index(raw, take(pictures, limit), SOURCE)


def _pictures(path: Path, split: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the pictures in a zip with an LMDB, which maps its file: it stands on the disk meanwhile."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        with zipfile.ZipFile(path) as source:
            (name,) = (name for name in source.namelist() if name.endswith("data.mdb"))
            database = Path(source.extract(name, folder))
        with lmdb.open(str(database.parent), readonly=True, lock=False) as environment, environment.begin() as data:
            count = data.stat()["entries"]
            for key, value in progress(data.cursor(), count, f"reading {split}", "pictures"):
                yield f"{split}/{key.decode()}.webp", value
