"""The user's own pictures: any tree of picture files in data/folder, or in a folder outside of the project.

An inventory of names and hashes is written first, so that changed files cause a new crop.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path, PurePosixPath

import pandas as pd

from dcgan.data.file_names import is_text
from dcgan.data.index import Source, split_by_name, take, write_index, zip_member
from dcgan.data.inventory import NO_TEXT, is_listed, passed_over, take_in
from dcgan.data.links import Linked
from dcgan.data.request import Request
from dcgan.system.errors import UserError
from dcgan.system.files import atomic
from dcgan.system.progress import say

ARCHIVE = "folder.zip"
SOURCE = Source(name="the pictures in data/folder", licence="their owners'", citation="", url="")


def write_inventory(folder: Path, inventory: Path) -> None:
    """Writes the names (relative, sorted), SHA-256s and problems of the files in `folder`.

    Raises:
        UserError: the folder holds no pictures.
    """
    files = take_in(folder)[["file", "sha256", "problem"]]
    files = files[files["file"] != ".gitkeep"].reset_index(drop=True)  # the project's own
    no_text = [not is_text(folder, name) for name in files["file"]]
    files.loc[no_text, ["sha256", "problem"]] = ["", NO_TEXT]  # DVC cannot hash it and .dvcignore leaves it out
    pictures = files["file"][files["problem"] == ""]
    if pictures.empty:
        raise UserError(
            f"dataset: folder needs pictures in {folder}, but there are none; put files there (JPEG, PNG, HEIC, ...), "
            "or link another folder with `dcgan data link FOLDER`."
        )
    within = {str(parent) for name in pictures for parent in PurePosixPath(name).parents}
    if linked := sorted(name for name in within if (folder / name).is_symlink()):
        say(
            f"{folder / linked[0]}: it is a symbolic link, and DVC does not notice changes in its target; "
            "use `dcgan data link FOLDER` instead."
        )
    files.loc[~is_listed(files), "sha256"] = ""  # what is no picture may change
    with atomic(inventory) as temporary:
        files.to_parquet(temporary, index=False)


def bring(raw: Path, request: Request) -> None:
    """Prepares the data set; called by the stage `download`."""
    if request.linked:
        prepare_linked(request.linked, raw, request.size)
    else:
        prepare(request.folder, request.inventory, raw, request.size)


def prepare(folder: Path, inventory: Path, raw: Path, limit: int | None) -> None:
    """Packs the pictures of the inventory into the new folder `raw`, byte for byte, and indexes them."""
    files = pd.read_parquet(inventory)
    pictures = _chosen(files, limit)
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / ARCHIVE, "w") as archive:
        usable = pictures[pictures["problem"] == ""]
        for name, sha256 in zip(usable["file"], usable["sha256"], strict=True):
            data = (folder / name).read_bytes() if (folder / name).is_file() else b""
            if hashlib.sha256(data).hexdigest() != sha256:
                raise UserError(
                    f"{folder / name}: it was changed or removed after the folder was listed; run the command again."
                )
            archive.writestr(zip_member(name), data)
    pictures = pictures.assign(archive=ARCHIVE).drop(columns="sha256")
    write_index(raw, pictures, SOURCE, int(is_listed(files).sum()), passed_over(files))


def prepare_linked(linked: Linked, raw: Path, limit: int | None) -> None:
    """Indexes the pictures of a linked folder in the new folder `raw`; they stay where they are."""
    pictures = _chosen(linked.files, limit).assign(archive="")
    if pictures.empty:
        raise UserError(f"dataset: folder needs pictures in {linked.folder}, but there are none; link another folder.")
    raw.mkdir(parents=True)
    source = SOURCE._replace(name=f"the pictures in {linked.folder}", folder=str(linked.folder))
    write_index(raw, pictures, source, int(is_listed(linked.files).sum()), passed_over(linked.files))


def _chosen(files: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """At most `limit` pictures with their splits, and all files that are named like pictures and are none."""
    listed = files[is_listed(files)]
    good = take(listed[listed["problem"] == ""].reset_index(drop=True), limit)
    chosen = pd.concat([good, listed[listed["problem"] != ""]]).sort_values("file", ignore_index=True)
    return chosen[["file", "problem", "sha256"]].assign(split=split_by_name(chosen["file"].tolist()))
