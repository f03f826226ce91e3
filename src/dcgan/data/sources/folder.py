"""The user's own pictures: any tree of picture files in data/folder.

An inventory of names and hashes is written first, so that changed files cause a new crop.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd

from dcgan.data.index import Source, split_by_name, take, write_index, zip_member
from dcgan.data.request import Request
from dcgan.system.errors import UserError
from dcgan.system.files import atomic, sha256

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
ARCHIVE = "folder.zip"
SOURCE = Source(name="the pictures in data/folder", licence="their owners'", citation="", url="")


def write_inventory(folder: Path | None, inventory: Path) -> None:
    """Writes names (relative, sorted) and SHA-256s of the picture files in `folder`; None: an empty list.

    Raises:
        UserError: the folder holds no picture files, or a file whose name is not UTF-8.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()) if folder else []
    if folder and not paths:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise UserError(
            f"dataset: folder needs pictures in {folder}, but there are none; put files there ({kinds}), "
            "and see data/folder/README.md."
        )
    if odd := [path for path in paths if not _is_text(str(path))]:
        raise UserError(f"dataset: folder holds a file whose name is not UTF-8: {str(odd[0])!a}; rename it.")
    rows = [(path.relative_to(folder).as_posix(), sha256(path)) for path in paths if folder]
    with atomic(inventory) as temporary:
        pd.DataFrame(rows, columns=["file", "sha256"], dtype="str").to_parquet(temporary, index=False)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def bring(raw: Path, request: Request) -> None:
    """Prepares the data set; called by the stage `download`."""
    prepare(request.folder, request.inventory, raw, request.size)


def prepare(folder: Path, inventory: Path, raw: Path, limit: int | None) -> None:
    """Packs the files of the inventory into the new folder `raw`, byte for byte, and indexes them."""
    files = pd.read_parquet(inventory)["file"].tolist()
    pictures = take(pd.DataFrame({"archive": ARCHIVE, "file": files, "split": split_by_name(files)}), limit)
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / ARCHIVE, "w") as archive:
        for name in pictures["file"]:
            try:
                archive.writestr(zip_member(name), (folder / name).read_bytes())
            except FileNotFoundError:
                raise UserError(
                    f"{folder / name}: it was removed after the folder was listed; run the command again."
                ) from None
    write_index(raw, pictures, SOURCE)
