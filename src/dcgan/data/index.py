"""The contract of data/raw: zip archives of pictures, pictures.parquet, one row a picture, and source.json.

Columns: `archive` (a zip file in the same folder), `file` (the member's name in it), `split` (train,
valid or test), `problem` (why the picture is not to be used; empty: nothing is known against it), then the
source's own attributes, int8, 1 for present and -1 for absent as CelebA writes them, 0 for not said. The order
of the rows is the order of the faces.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dcgan.system.files import atomic, write_json

SPLITS = ("train", "valid", "test")
_PICTURES, _SOURCE = "pictures.parquet", "source.json"
COLUMNS = ["archive", "file", "split", "problem"]  # all others are attributes


class Source(NamedTuple):
    """Whose pictures they are."""

    name: str
    licence: str
    citation: str
    url: str


def write_index(raw: Path, pictures: pd.DataFrame, source: Source) -> None:
    """Writes what makes the folder `raw` readable to the crop; a table without problems may lack the column."""
    if "problem" not in pictures:
        pictures = pictures.assign(problem="")
    attributes = [name for name in pictures.columns if name not in COLUMNS]
    write_json(raw / _SOURCE, source._asdict())
    with atomic(raw / _PICTURES) as temporary:
        pictures[COLUMNS + attributes].to_parquet(temporary, index=False)


def read_index(raw: Path) -> tuple[pd.DataFrame, Source]:
    """What `write_index` wrote."""
    return pd.read_parquet(raw / _PICTURES), Source(**json.loads((raw / _SOURCE).read_text()))


def _unit(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def split_by_name(names: Sequence[str]) -> list[str]:
    """Splits for a source that has none: 90 % train, 5 % valid, 5 % test, by hash of the name.

    A picture stays in its split when others are added or removed.
    """
    return ["train" if _unit(n) < 0.9 else "valid" if _unit(n) < 0.95 else "test" for n in names]


def cut_off(split: str, pictures: pd.DataFrame) -> list[str]:
    """The splits of `pictures`, with 5 % of those in train moved to `split`, which their source lacks."""
    by_name = split_by_name(pictures["file"].tolist())
    return [
        split if old == "train" and cut == split else old for old, cut in zip(pictures["split"], by_name, strict=True)
    ]


def take(pictures: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """At most `most` rows, chosen by hash of the file's name, in their old order; None: all of them."""
    if limit is None or limit >= len(pictures):
        return pictures
    chosen = pictures["file"].map(lambda name: _unit(f"take {name}")).nsmallest(limit).index
    return pictures.loc[chosen.sort_values()].reset_index(drop=True)


def zip_member(name: str) -> zipfile.ZipInfo:
    """A stored member without a timestamp, so that the same pictures give the same archive."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def link_or_copy(source: Path, target: Path) -> None:
    """Brings a kept file into place, without a second copy on the disk where the file system allows."""
    try:
        os.link(source.resolve(), target)  # the file itself, where the user has put a link
    except OSError:
        shutil.copyfile(source, target)
