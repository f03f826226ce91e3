"""Atomic file writes: a file is either complete or absent."""

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
    """Yields a temporary path beside `path`, and renames it to `path` at the end of the block.

    The block writes a file at the temporary path, or creates a folder there. If the block raises, the temporary file
    or folder is removed, and `path` is unchanged. Leftovers of a killed process under the temporary name are removed
    at the start.
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
            _remove(path)  # a folder cannot be renamed onto a folder that is not empty
        temporary.replace(path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError) and error.filename is None:  # the error of a full disk may name no file
            error.filename = str(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON; keys keep their insertion order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes rows of numbers as CSV with a header line; each number has 6 significant digits."""
    import pandas as pd  # imported here, since most stages write no CSV

    with atomic(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def significant(value: float, digits: int = 6) -> float:
    """`value` rounded to `digits` significant digits, as in the metrics files."""
    return float(f"{value:.{digits}g}")
