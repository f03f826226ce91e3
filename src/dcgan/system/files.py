"""Files that are either complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling of `path` to write, a file or a folder, and renames it at the end.

    When the block raises, the temporary is removed and what stood at `path` is untouched. What a
    killed process left under the temporary name is removed at the start. A folder's block creates it.
    """
    temporary = path.with_name(f".{path.name}.partial")
    _remove(temporary)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _remove(path)  # a rename cannot put a folder over one that is not empty
        temporary.replace(path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say where
            error.filename = str(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as readable JSON; the order of keys is the order of insertion."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes rows of numbers, of 6 significant digits, under their names."""
    import pandas as pd  # here, since most stages write none

    with atomic(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def significant(value: float, digits: int = 6) -> float:
    """`value` rounded to `digits` significant digits, as metrics files hold it."""
    return float(f"{value:.{digits}g}")
