"""Lists the files of a folder: their names, sizes, times and SHA-256s, and why a file is no picture.

Whether a file is a picture is decided by its first bytes, not by its name. Symbolic links are followed, and each folder
is searched once, so that loops end. Nothing is written into the folder.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from dcgan.data.file_names import as_path, as_text
from dcgan.system.processor import cores
from dcgan.system.progress import progress

KEYS = ["file", "size", "mtime_ns"]
COLUMNS = ["file", "size", "mtime_ns", "sha256", "problem"]
HIDDEN = "it is hidden, or in a hidden folder"
NO_TEXT = "its name is not UTF-8, which DVC needs; rename it, or use `dcgan data link`"
EMPTY = "the file is empty"
NOT_A_PICTURE = "it is not a picture in a known format"
_AGAIN = "it is a symbolic link to a folder that is searched under another name"
# Endings of pictures. A file with such an ending that is none is named among the unusable pictures, not passed over.
_ENDINGS = tuple(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .tif .tiff .avif .heic .heif .hif .jp2 .j2k .ppm .pgm".split()
)
_PICTURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"
    rb"|II\*\0(?!.{4}CR)|MM\0\*|II\+\0|MM\0\+"  # TIFF; not Canon's raw pictures
    rb"|.{4}ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|mif1|msf1)"  # AVIF and HEIF
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"  # JPEG 2000
    rb"|P[1-6]\s+[\d#]",
    re.DOTALL,
)
# What file managers and cameras leave, beside all names with a leading dot.
_LEFT = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found"}
# Other files of which a data set can consist: their changes matter too.
_HASHED = (".zip", ".csv", ".txt")
_PIECE = 1 << 16  # bytes read at a time; for more, malloc would ask the system for memory each time
_CHUNK = 256  # files per task of a thread


class _Search(NamedTuple):
    """The search of a folder so far. Lists of 200,000 numbers are twice as fast as a list of 200,000 tuples."""

    files: list[str]
    sizes: list[int]
    times: list[int]  # modification times in ns
    problems: list[str]
    searched: set[str]  # real paths of folders
    links: list[tuple[str, str]]  # names and paths of symbolic links to folders

    def add(self, file: str, size: int = 0, mtime_ns: int = 0, problem: str = "") -> None:
        self.files.append(file)
        self.sizes.append(size)
        self.times.append(mtime_ns)
        self.problems.append(problem)


def look(folder: Path) -> pd.DataFrame:
    """Lists the files of a folder without reading them.

    Returns:
        The columns file, size, mtime_ns and problem, sorted by file; `problem` is what can be said without reading.

    Raises:
        OSError: the folder cannot be read.
    """
    os.scandir(folder).close()
    search = _Search([], [], [], [], set(), [])
    _search(search, str(folder), "")
    while search.links:  # after all folders that are there themselves, whose names are preferred
        links = sorted(search.links)
        search.links.clear()
        for name, path in links:
            _search(search, path, f"{name}/")
    files = [name if name.isascii() else as_text(name) for name in search.files]
    columns = {"file": files, "size": search.sizes, "mtime_ns": search.times, "problem": search.problems}
    types = {"file": "str", "size": "int64", "mtime_ns": "int64", "problem": "str"}
    return pd.DataFrame(columns).astype(types).sort_values("file", ignore_index=True)


def _search(search: _Search, path: str, prefix: str) -> None:
    """Searches a folder and all below it, but for symbolic links to folders, which are noted."""
    waiting = [(path, prefix, os.path.realpath(path))]
    while waiting:
        path, prefix, real = waiting.pop()
        if real in search.searched:
            search.add(prefix.rstrip("/"), problem=_AGAIN)
            continue
        search.searched.add(real)
        try:
            for entry in os.scandir(path):
                name = prefix + entry.name
                if is_hidden(entry.name):
                    for found in _hidden(entry, prefix):
                        search.add(found, problem=HIDDEN)
                elif _is(entry.is_file):
                    about = entry.stat()
                    search.add(name, about.st_size, about.st_mtime_ns)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{name}/", f"{real.rstrip('/')}/{entry.name}"))
                elif _is(entry.is_dir):
                    search.links.append((name, entry.path))
                else:
                    search.add(name, problem=_strange(entry))
        except OSError as error:
            search.add(prefix.rstrip("/"), problem=f"the folder cannot be read: {error.strerror}")


def _is(kind: Callable[[], bool]) -> bool:
    """Whether a file is of a kind; not if it is a symbolic link to itself."""
    try:
        return kind()
    except OSError:
        return False


def _strange(entry: os.DirEntry[str]) -> str:
    """The problem of what is neither a file nor a folder."""
    try:
        entry.stat()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "it is a device, pipe or socket"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: it is hidden, or left by a file manager or a camera."""
    return name.startswith(".") or name.lower() in _LEFT


def _hidden(entry: os.DirEntry[str], prefix: str) -> Iterator[str]:
    """The names of a hidden file, or of all files in a hidden folder."""
    if entry.is_dir(follow_symlinks=False):
        for at, _, names in os.walk(entry.path):
            yield from (prefix + entry.name + f"{at}/{name}".removeprefix(entry.path) for name in names)
    else:
        yield prefix + entry.name


def take_in(folder: Path, known: pd.DataFrame | None = None, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """Lists the files of a folder with their SHA-256s; reads those that `known` does not hold with size and time.

    Args:
        known: an earlier result.
        found: the result of `look`; None: looks.

    Returns:
        COLUMNS, sorted by file; `problem` is empty for pictures. Only pictures, archives and lists have a `sha256`.

    Raises:
        OSError: the folder cannot be read.
    """
    table = look(folder) if found is None else found
    if known is None:
        known = table[:0].assign(sha256="")
    before = known[known["problem"].isin(["", EMPTY, NOT_A_PICTURE])].set_index(KEYS)[["sha256", "problem"]]
    table = table.join(before, on=KEYS, rsuffix="_before")
    unread = table.index[(table["problem"] == "") & table["sha256"].isna()]
    table["problem"] = table["problem"].where(table["problem"] != "", table["problem_before"].fillna(""))
    table["sha256"] = table["sha256"].fillna("")
    read = list(_read_all(folder, table["file"][unread].tolist()))
    table.loc[unread, ["sha256", "problem"]] = pd.DataFrame(read, unread, ["sha256", "problem"], "str")
    return table[COLUMNS]


def _read_all(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields SHA-256 and problem of files, in their order."""
    chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
    with concurrent.futures.ThreadPoolExecutor(4 * cores()) as pool:  # more than cores: disks and servers take time
        try:
            read = pool.map(lambda chunk: [_read(folder, name) for name in chunk], chunks)
            yield from progress(itertools.chain.from_iterable(read), len(names), f"reading {folder}", "files")
        finally:
            pool.shutdown(cancel_futures=True)


def _read(folder: Path, name: str) -> tuple[str, str]:
    try:
        file = os.open(as_path(folder, name), os.O_RDONLY)  # for small files, `open` takes as long as all the rest
        try:
            begin = os.read(file, _PIECE)
            problem = EMPTY if not begin else "" if _PICTURE.match(begin) else NOT_A_PICTURE
            if problem and not name.lower().endswith(_HASHED):
                return "", problem
            digest = hashlib.sha256(begin)
            while piece := os.read(file, _PIECE):
                digest.update(piece)
        finally:
            os.close(file)
    except OSError as error:
        return "", f"it cannot be read: {error.strerror}"
    return digest.hexdigest(), problem


def _ending(name: str) -> str:
    """The ending of a file's name in lower case, as `.txt`; empty if there is none."""
    ending = PurePosixPath(name).suffix.lower()
    return ending if re.fullmatch(r"\.\w{1,10}", ending) else ""


def passed_over(files: pd.DataFrame) -> list[dict[str, Any]]:
    """Counts the files that are neither pictures nor named like pictures, by reason and ending, most first.

    Returns:
        Dictionaries with reason, ending (as `.txt`; empty: none), files (their number) and first (the first file).
    """
    others = files[~is_listed(files)]
    kinds = others.groupby([others["problem"], others["file"].map(_ending)])["file"]
    counted = kinds.agg(["count", "first"]).sort_values("count", ascending=False, kind="stable")
    return [
        {"reason": reason, "ending": ending, "files": int(count), "first": first}
        for (reason, ending), count, first in zip(counted.index, counted["count"], counted["first"], strict=True)
    ]


def is_listed(files: pd.DataFrame) -> pd.Series[bool]:
    """Whether each file is a picture, or has the name of one and not the content: what the index lists."""
    named = files["file"].str.lower().str.endswith(_ENDINGS)
    return (files["problem"] == "") | (~files["problem"].isin([HIDDEN, NO_TEXT]) & named)


def digest(files: pd.DataFrame) -> str:
    """The SHA-256 of the names, contents and problems of files, in hexadecimal."""
    whole = hashlib.sha256()
    for row in zip(files["file"], files["sha256"], files["problem"], strict=True):
        whole.update("\0".join(row).encode() + b"\n")
    return whole.hexdigest()
