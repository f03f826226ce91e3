"""CelebA's lists of attributes and of splits, in the format of its authors (.txt) and as Kaggle's copy has them (.csv).

The authors write the number of pictures, a line with the names of the attributes, and a row per picture, separated by
spaces; the list of splits has only the rows. In a .csv file, the first line names all columns. The content decides
which format it is, and not the file's name.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from dcgan.data.fetching import page_in
from dcgan.data.index import COLUMNS, PLACE
from dcgan.system.errors import UserError

NAME = re.compile(r"[0-9]{6}\.jpg")  # of a picture
_ATTRIBUTE = {"1": 1, "-1": -1}
_SPLIT = {"0": 0, "1": 1, "2": 2}
_WORDS = 40  # characters of the file that a message shows at most


class Listed(NamedTuple):
    """The rows of a list."""

    name: str  # of the file
    values: pd.DataFrame  # int8; a row per picture, with the picture's name as index
    problems: dict[str, str]  # why the row of a picture cannot be used; `values` lacks it
    remarks: list[str]  # what else is odd about the list

    @property
    def names(self) -> set[str]:
        """Of all pictures in the list, also of those whose row cannot be used."""
        return {*self.values.index, *self.problems}

    def same(self, other: Listed) -> bool:
        """Whether another list says the same of the same pictures."""
        mine, others = self.values.sort_index(), other.values.sort_index()
        return mine.equals(others) and self.problems.keys() == other.problems.keys()


def read_attributes(data: bytes, name: str) -> Listed:
    """Reads a list of attributes, each 1 (present) or -1.

    Args:
        name: of the file, for messages.

    Raises:
        UserError: the file is not such a list, or none of its rows can be used.
    """
    return _read(data, name, _ATTRIBUTE, None)


def read_partition(data: bytes, name: str) -> Listed:
    """Reads the list of splits: 0 (train), 1 (valid) or 2 (test), in the column `partition`; as `read_attributes`."""
    return _read(data, name, _SPLIT, ["partition"])


def _read(data: bytes, name: str, allowed: dict[str, int], columns: list[str] | None) -> Listed:
    head = _head(_text(data, name).splitlines(), name)
    columns = columns or head.columns
    _check_header(head.columns, columns, name)
    rows = _Rows(len(columns), allowed)
    for number, line in head.rows:
        if fields := head.split(line):
            rows.add(number, fields)
    values, problems, nameless = rows.result(columns)
    if values.empty:
        reason = next(iter([*problems.values(), *nameless]), "it has no rows")
        raise _invalid(name, reason)
    remarks = [f"{len(nameless)} rows without the name of a picture (the first: {nameless[0]})"] if nameless else []
    if head.says not in (None, len(values) + len(problems)):
        remarks.append(f"{len(values) + len(problems):,} pictures, but its first line says {head.says:,}")
    if rows.repeated:
        remarks.append(f"{rows.repeated:,} rows that repeat another one")
    return Listed(name, values, problems, remarks)


def _text(data: bytes, name: str) -> str:
    if page := page_in(data):
        raise _invalid(name, page)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _invalid(name, "it is not UTF-8 text")
    return text


def _invalid(name: str, why: str) -> UserError:
    return UserError(f"{name}: it is not a valid CelebA list ({why}); replace the file.")


class _Head(NamedTuple):
    """What the first lines of a list say, and the lines after them."""

    says: int | None  # number of rows
    columns: list[str]  # without that of the pictures' names
    split: Callable[[str], list[str]]  # from a line to its fields
    rows: Iterable[tuple[int, str]]  # the other lines, with their numbers


def _head(lines: list[str], name: str) -> _Head:
    counted = re.fullmatch(r"\s*([0-9]{1,9})\s*", lines[0], re.ASCII) if lines else None
    numbered = list(enumerate(lines, 1))[1 if counted else 0 :]
    if not numbered:
        raise _invalid(name, "it has no rows")
    first = numbered[0][1]
    split = _splitter(first)
    columns = split(first)
    if columns and NAME.fullmatch(columns[0].lower()):  # a row
        columns = []
    else:
        numbered = numbered[1:]
        columns = columns[1:] if _delimiter(first) or columns[:1] == ["image_id"] else columns
    return _Head(int(counted[1]) if counted else None, columns, split, numbered)


def _check_header(header: list[str], columns: list[str], name: str) -> None:
    problem = ""
    if not columns:
        problem = "no header names the attributes"
    elif header and len(header) != len(columns):
        problem = f"its header names {len(header)} columns after the picture's name, not {len(columns)}"
    elif odd := [c for c in columns if not c.isprintable() or not c or c in (*COLUMNS, *PLACE) or columns.count(c) > 1]:
        problem = f"the column name {odd[0][:_WORDS]!r} in its header is not allowed or not unique"
    if problem:
        raise _invalid(name, problem)


def _delimiter(line: str) -> str:
    """The first of these characters that a line has; empty: spaces separate the fields."""
    return next((each for each in ",;\t" if each in line), "")


def _splitter(line: str) -> Callable[[str], list[str]]:
    """Returns a function from a line to its fields, for the lines of a list that has this line."""
    delimiter = _delimiter(line)
    if not delimiter:
        return str.split
    return lambda text: [field.strip() for field in text.replace('"', "").split(delimiter)] if text.strip() else []


class _Rows:
    """Collects the rows of a list."""

    def __init__(self, width: int, allowed: dict[str, int]) -> None:
        self.repeated = 0  # rows equal to another one of the same picture
        self._width, self._allowed = width, allowed
        self._names: dict[str, int] = {}  # number of the row, by picture
        self._values = array("b")
        self._problems: dict[str, str] = {}
        self._nameless: list[str] = []

    def add(self, number: int, fields: list[str]) -> None:
        """Adds the fields of line `number`."""
        name = fields[0].lower()
        if not NAME.fullmatch(name):
            self._nameless.append(f"line {number} begins with {fields[0][:_WORDS]!r}")
        elif len(fields) != self._width + 1:
            self._problems[name] = f"line {number} has {len(fields) - 1} values, not {self._width}"
        else:
            try:
                values = array("b", [self._allowed[field] for field in fields[1:]])
            except KeyError as error:
                wrong = str(error.args[0])[:_WORDS]
                expected = " or ".join(self._allowed)
                self._problems[name] = f"line {number} has the value {wrong!r}, not {expected}"
                return
            self._add(name, values)

    def _add(self, name: str, values: array[int]) -> None:
        at = self._names.setdefault(name, len(self._names)) * self._width
        if at == len(self._values):
            self._values.extend(values)
        elif self._values[at : at + self._width] == values:
            self.repeated += 1
        else:
            self._problems[name] = "it has two rows that differ"

    def result(self, columns: Iterable[str]) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
        """Returns the values of the sound rows, why the others cannot be used, and the rows that name no picture."""
        values = np.frombuffer(self._values, np.int8).reshape(-1, self._width)
        table = pd.DataFrame(values, index=pd.Index(self._names, dtype="str"), columns=pd.Index(columns))
        return table.drop(index=[n for n in self._problems if n in self._names]), self._problems, self._nameless
