"""Atomic file writes: files are either complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def together() -> Iterator[Callable[[Path], Path]]:
    """Yields a function from a path to a temporary path beside it; all paths appear together at the end of the block.

    The block writes a file at each temporary path, or creates a folder there. If the block raises, the temporary files
    and folders are removed, and no path is changed. Leftovers of a killed process under a temporary name are removed
    when the name is given out.
    """
    temporary: dict[Path, Path] = {}

    def new(path: Path) -> Path:
        if path not in temporary:
            temporary[path] = path.with_name(f".{path.name}.partial")
            remove(temporary[path])
            path.parent.mkdir(parents=True, exist_ok=True)
        return temporary[path]

    try:
        yield new
        for path, written in temporary.items():
            if written.is_file():
                with written.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                remove(path)  # a folder cannot be renamed onto a folder that is not empty
        for path, written in temporary.items():
            written.replace(path)
    except BaseException as error:
        for written in temporary.values():
            remove(written)
        if isinstance(error, OSError):
            final = {str(written): str(path) for path, written in temporary.items()}
            last = str(next(reversed(temporary), ""))  # the error of a full disk may name no file
            error.filename = final.get(str(error.filename), error.filename or last or None)
        raise


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Like `together` for a single path: yields its temporary path."""
    with together() as new:
        yield new(path)


def remove(path: Path) -> None:
    """Removes a file or a folder with all it contains; a path that does not exist is ignored."""
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
