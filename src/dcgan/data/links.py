"""A folder outside of the project that holds the user's own pictures; nothing is ever written into it.

data/link.json, which git tracks and DVC hashes, names the folder and a digest of what it holds. The list of its files
is in data/links/DIGEST.parquet of the main project, which git ignores.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dcgan.data.inventory import HIDDEN, KEYS, digest, look, take_in
from dcgan.system.errors import UserError
from dcgan.system.files import atomic, write_json
from dcgan.system.project_files import DOWNLOADS, FOLDER, LINK, LINKS

DATASETS = ("celeba", "folder")  # those that a linked folder can hold
_SHOWN = 3  # files of each kind of change that a message names


class Linked(NamedTuple):
    """A linked folder, as it was when it was last looked over."""

    folder: Path
    files: pd.DataFrame  # file, size, sha256, problem (empty for a picture), sorted by file; see dcgan.data.inventory


class Link(NamedTuple):
    """The content of data/link.json."""

    folder: str = ""  # absolute path; empty: no folder is linked
    pictures: int = 0
    files: int = 0  # pictures included
    sha256: str = ""  # of the names and contents of the files, see `inventory.digest`


def read_link(root: Path) -> Link:
    """Reads data/link.json of the project `root`.

    Raises:
        UserError: the file is not what `link` writes.
    """
    try:
        return Link(**json.loads((root / LINK).read_text()))
    except FileNotFoundError:
        return Link()
    except (ValueError, TypeError):
        raise UserError(f"{LINK}: it cannot be read; write it again with `dcgan data link FOLDER`.") from None


def link(root: Path, folder: Path | None) -> Linked:
    """Looks a folder over, and links it to the project `root`; None: the folder that is linked.

    Raises:
        UserError: there is no such folder, it cannot be read, it holds no pictures, or it is a part of the project.
    """
    before = read_link(root)
    if folder is None and not before.folder:
        raise UserError(f"{LINK}: no folder is linked; link one with `dcgan data link FOLDER`.")
    folder = Path(os.path.normpath((folder or Path(before.folder)).absolute()))
    _check(root, folder)
    inventory = _inventory(root, before)
    known = pd.read_parquet(inventory) if inventory.is_file() and before.folder == str(folder) else None
    files = take_in(folder, known, _look(folder))
    pictures = int((files["problem"] == "").sum())
    if not pictures and not files["file"].str.lower().str.endswith(".zip").any():
        raise UserError(f"{folder}: none of its {len(files):,} files is a picture; link another folder.")
    now = Link(str(folder), pictures, len(files), digest(files))
    _save(root, now, files)
    if now != before:
        write_json(root / LINK, now._asdict())
    return Linked(folder, files)


def unlink(root: Path) -> None:
    """Lets data/link.json name no folder."""
    write_json(root / LINK, Link()._asdict())


def check_own_folder(root: Path) -> None:
    """Checks that data/folder is not a symbolic link.

    Raises:
        UserError: it is one; the copies that `dvc exp run` makes of git's files would go through it.
    """
    if (root / FOLDER).is_symlink():
        target = (root / FOLDER).resolve()
        raise UserError(
            f"{FOLDER}: it is a symbolic link to {target}, into which git and DVC would write; type "
            f"`rm {FOLDER} && git checkout {FOLDER} && dcgan data link {shlex.quote(str(target))}`."
        )


def look_over(root: Path, main: Path) -> Linked | None:
    """Returns the folder that is linked to the project `root`; None if there is none.

    Args:
        main: the main project, which holds the list of the files, if `root` is a copy of it.

    Raises:
        UserError: a file in the folder was changed, added or removed since it was linked.
    """
    link = read_link(root)
    if not link.folder:
        return None
    folder, inventory = Path(link.folder), _inventory(main, link)
    if not inventory.is_file():  # in a clone, or removed by `dcgan clean`
        files = take_in(folder, found=_look(folder))
        if digest(files) != link.sha256:
            raise _changed(folder, "which files is not known, since their list is not in this project")
        _save(main, link, files)
        return Linked(folder, files)
    known, found = pd.read_parquet(inventory), _look(folder)
    hidden = known["problem"] == HIDDEN
    shown, found = known[~hidden].reset_index(drop=True), found[found["problem"] != HIDDEN].reset_index(drop=True)
    if shown[KEYS].equals(found[KEYS]):
        return Linked(folder, known)
    now = take_in(folder, shown, found[found["file"].isin(shown["file"])].reset_index(drop=True))
    if changes := _changes(shown, now, found):
        raise _changed(folder, changes)
    files = pd.concat([known[hidden], now]).sort_values("file", ignore_index=True)
    _save(main, link, files)  # files were touched, and shall not be read again the next time
    return Linked(folder, files)


def _changed(folder: Path, how: str) -> UserError:
    return UserError(
        f"{folder}: the folder has changed since it was linked ({how}); restore its files, or run `dcgan data link` to "
        "use them as they are now, then `dvc repro`."
    )


def _changes(shown: pd.DataFrame, now: pd.DataFrame, found: pd.DataFrame) -> str:
    """How many files were removed, modified and added, with the first of each kind; empty if none was."""
    gone = shown["file"][~shown["file"].isin(now["file"])]
    both = shown.merge(now, on="file", suffixes=("", "_now"))
    differ = (both["sha256"] != both["sha256_now"]) | (both["problem"] != both["problem_now"])
    new = found["file"][~found["file"].isin(shown["file"])]
    kinds = {"removed": gone, "modified": both["file"][differ], "added": new}
    return "; ".join(
        f"{len(files):,} {'file' if len(files) == 1 else 'files'} {how}: {_first(files)}"
        for how, files in kinds.items()
        if len(files)
    )


def _first(files: pd.Series[str]) -> str:
    return ", ".join([*files[:_SHOWN], *["..."] * (len(files) > _SHOWN)])


def _inventory(main: Path, link: Link) -> Path:
    return main / LINKS / f"{link.sha256}.parquet"


def _save(main: Path, link: Link, files: pd.DataFrame) -> None:
    with atomic(_inventory(main, link)) as temporary:
        files.to_parquet(temporary, index=False)


def _look(folder: Path) -> pd.DataFrame:
    try:
        return look(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: the linked folder cannot be read: {error.strerror}; make it accessible, or link another with "
            "`dcgan data link FOLDER`."
        ) from None


def _check(root: Path, folder: Path) -> None:
    """Raises UserError if `folder` cannot be linked to the project `root`."""
    real, project = folder.resolve(), root.resolve()
    in_data = real.is_relative_to(project / FOLDER.parent) and not real.is_relative_to(project / DOWNLOADS)
    if not folder.exists():
        problem = "there is no such folder"
    elif not folder.is_dir():
        problem = "it is not a folder"
    elif in_data or project.is_relative_to(real):
        problem = "it is inside this project, or contains it"
    elif not str(folder).isprintable():
        problem = f"its path {str(folder)!a} contains characters that cannot be printed"
    else:
        return
    raise UserError(f"{folder}: {problem}; link a folder of pictures outside of the project, or in {DOWNLOADS}.")


def write_list(path: Path, linked: Linked | None) -> None:
    """Writes a linked folder into data/folder.parquet, without times, so that touched files change nothing.

    None: an empty list.
    """
    files = linked.files if linked else pd.DataFrame(columns=["file", "size", "sha256", "problem"], dtype="str")
    files = files.assign(size=files["size"].where(files["sha256"] != "", 0).astype("int64"))
    files = files[["file", "size", "sha256", "problem"]]
    files.attrs = {"folder": str(linked.folder)} if linked else {}  # pandas keeps it in the file
    with atomic(path) as temporary:
        files.to_parquet(temporary, index=False)


def read_list(path: Path) -> Linked | None:
    """Reads data/folder.parquet; None if it holds no linked folder."""
    files = pd.read_parquet(path)
    return Linked(Path(files.attrs["folder"]), files) if files.attrs.get("folder") else None
