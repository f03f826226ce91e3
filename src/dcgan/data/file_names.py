"""File names as text that can be stored, whatever their bytes are."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def as_text(name: str) -> str:
    r"""A file's name as text; bytes that are not UTF-8, as in old Chinese names, become `\xc4`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def as_path(folder: Path, text: str) -> str:
    """The path of the file in `folder` whose name is `text`, as `as_text` returned it."""
    path = f"{folder}/{text}"  # Path would take as long as reading a small file
    if "\\x" not in text or Path(path).exists():
        return path
    return f"{folder}/{os.fsdecode(_ESCAPED.sub(lambda byte: bytes.fromhex(byte[1].decode()), text.encode()))}"


def is_text(folder: Path, text: str) -> bool:
    """Whether the name of the file in `folder` is `text` itself, without replaced bytes."""
    return as_path(folder, text) == f"{folder}/{text}"
