"""The format of data/raw: zip archives of pictures, pictures.parquet with one row per picture, and source.json.

The columns are `archive` (a zip file in the same folder), `file` (the picture's name, and the member's in the zip),
`split` (train, valid or test), `problem` (why the picture must not be used; empty if no problem is known), and the
source's own attributes as int8: 1 for present and -1 for absent, as in CelebA, and 0 for unknown. The faces of a split
have the order of the rows.

If the pictures stay in a folder outside of the project (`Source.folder`), `archive` is the name of a zip file relative
to that folder, or empty for a loose file, and `file` is then relative to the folder, see `dcgan.data.file_names`. One
more column, `sha256`, holds the hash of the loose file or of the zip file. Where a picture's place is not its name, the
column `member` says it: the member of the zip, or the path of the loose file in the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from dcgan.system.files import atomic, write_json

SPLITS = ("train", "valid", "test")
_PICTURES, _SOURCE = "pictures.parquet", "source.json"
COLUMNS = ["archive", "file", "split", "problem"]
PLACE = ["member", "sha256"]  # columns that may be absent; all others are attributes


class Source(NamedTuple):
    """The origin of the pictures."""

    name: str
    licence: str
    citation: str
    url: str
    folder: str = ""  # the linked folder (absolute) that holds the pictures; empty: they are in data/raw
    verified: str = ""  # which copy of the published files this is, and what was verified

    def about(self) -> dict[str, str]:
        """The fields, without those of the last two that are empty."""
        return {key: value for key, value in self._asdict().items() if value or key not in self._field_defaults}


class LeftOut(NamedTuple):
    """What a source left out of the index."""

    found: int  # number of pictures from which `dataset_size` chose those in the index
    passed_over: list[dict[str, Any]]  # files that are not pictures, by kind: reason, ending, files, first


def write_index(
    raw: Path,
    pictures: pd.DataFrame,
    source: Source,
    found: int | None = None,
    passed_over: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes pictures.parquet and source.json into the folder `raw`.

    Args:
        pictures: one row per picture; the column `problem` may be absent if no problem is known.
        found: number of pictures before `take`; None: `pictures` are all.
        passed_over: see LeftOut.
    """
    if "problem" not in pictures:
        pictures = pictures.assign(problem="")
    places = [name for name in PLACE if name in pictures]
    attributes = [name for name in pictures.columns if name not in COLUMNS + PLACE]
    left_out = LeftOut(len(pictures) if found is None else found, [dict(kind) for kind in passed_over])
    write_json(raw / _SOURCE, source._asdict() | left_out._asdict())
    with atomic(raw / _PICTURES) as temporary:
        pictures[COLUMNS + places + attributes].to_parquet(temporary, index=False)


def read_index(raw: Path) -> tuple[pd.DataFrame, Source]:
    """Reads the pictures and the source that `write_index` wrote."""
    written = json.loads((raw / _SOURCE).read_text())
    return pd.read_parquet(raw / _PICTURES), Source(**{name: written[name] for name in Source._fields})


def read_left_out(raw: Path) -> LeftOut:
    """Reads what the source left out."""
    written = json.loads((raw / _SOURCE).read_text())
    return LeftOut(**{name: written[name] for name in LeftOut._fields})


def stored_as(pictures: pd.DataFrame) -> pd.Series:
    """Returns the place of each picture: the member of its zip, or the path of the loose file in the linked folder."""
    return pictures["member"] if "member" in pictures else pictures["file"]


def _unit(name: str) -> float:
    """Returns a number in [0, 1) that depends only on the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def split_by_name(names: Sequence[str]) -> list[str]:
    """Returns splits for a source that has none: 90 % train, 5 % valid and 5 % test, by hash of the name.

    A picture stays in its split when others are added or removed.
    """
    return ["train" if _unit(n) < 0.9 else "valid" if _unit(n) < 0.95 else "test" for n in names]


def cut_off(split: str, pictures: pd.DataFrame) -> list[str]:
    """Returns the splits of `pictures`, with 5 % of the train split moved to `split`, which the source lacks."""
    by_name = split_by_name(pictures["file"].tolist())
    return [
        split if old == "train" and cut == split else old for old, cut in zip(pictures["split"], by_name, strict=True)
    ]


def take(pictures: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Returns at most `limit` rows, chosen by hash of the file's name, in their original order; None: all rows."""
    if limit is None or limit >= len(pictures):
        return pictures
    chosen = pictures["file"].map(lambda name: _unit(f"take {name}")).nsmallest(limit).index
    return pictures.loc[chosen.sort_values()].reset_index(drop=True)


def zip_member(name: str) -> zipfile.ZipInfo:
    """Returns an uncompressed member with a fixed timestamp, so that equal pictures give equal archives."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def link_or_copy(source: Path, target: Path) -> None:
    """Creates `target` as a hard link to `source`, or as a copy if the file system does not allow the link.

    A file that is also elsewhere, through a symbolic link or another hard link, is copied: DVC can make `target`
    read-only, and with it all names of the file.
    """
    try:
        if source.is_symlink() or source.stat().st_nlink > 1:
            raise OSError
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
