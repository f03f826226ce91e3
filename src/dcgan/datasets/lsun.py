"""LSUN church_outdoor (Yu et al. 2015): 126,227 pictures of 256 pixels on the short side, WebP in an LMDB.

Its authors publish two zip files and no hashes of them; the checksums inside the zips are verified.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pandas as pd

from dcgan.datasets.index import cut_off, take, write_index, zip_member
from dcgan.errors import UserError
from dcgan.progress import progress

FILES = {"train": "church_outdoor_train_lmdb.zip", "valid": "church_outdoor_val_lmdb.zip"}
ARCHIVE = "lsun_church.zip"


def prepare(downloads: Path, raw: Path, most: int | None) -> None:
    """Copies the pictures of both LMDBs in `downloads`, byte for byte, into the new folder `raw`.

    The valid split is the source's; it publishes no test pictures, so 5 % of the train split are cut off.

    Raises:
        UserError: a file is absent or damaged.
    """
    if absent := [name for name in FILES.values() if not (downloads / name).is_file()]:
        raise UserError(
            f"dataset: lsun_church needs {', '.join(absent)} in {downloads}; "
            "fetch the category church_outdoor with the LSUN authors' download.py (github.com/fyu/lsun)."
        )
    raw.mkdir(parents=True)
    rows: list[tuple[str, str]] = []
    with zipfile.ZipFile(raw / ARCHIVE, "w") as archive:
        for split, file in FILES.items():
            try:
                for name, picture in _pictures(downloads / file, split, raw):
                    archive.writestr(zip_member(name), picture)
                    rows.append((name, split))
            except (zipfile.BadZipFile, zlib.error, EOFError, lmdb.Error):
                raise UserError(
                    f"{downloads / file}: it is not LSUN's zip with a data.mdb inside, or is damaged; fetch it again."
                ) from None
    pictures = pd.DataFrame(rows, columns=["file", "split"])
    pictures["split"] = cut_off("test", pictures)
    pictures.insert(0, "archive", ARCHIVE)
    write_index(raw, take(pictures, most))


def _pictures(path: Path, split: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the pictures in a zip with an LMDB, which maps its file: it stands on the disk meanwhile."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        with zipfile.ZipFile(path) as source:
            names = [name for name in source.namelist() if name.endswith("data.mdb")]
            if not names:
                raise zipfile.BadZipFile
            database = Path(source.extract(names[0], folder))
        with lmdb.open(str(database.parent), readonly=True, lock=False) as environment, environment.begin() as data:
            count = data.stat()["entries"]
            for key, value in progress(data.cursor(), count, f"reading {split}", "pictures"):
                yield f"{split}/{key.decode()}.webp", value
