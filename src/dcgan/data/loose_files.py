"""Reads pictures from a folder outside of the project, whose files may change at any time."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dcgan.data.archives import MOST_BYTES
from dcgan.system.errors import UserError

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def as_text(name: str) -> str:
    r"""A file's name as text that can be stored: bytes that are not UTF-8, as in old Chinese names, become `\xc4`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def as_path(folder: Path, text: str) -> Path:
    """The path of the file in `folder` whose name is `text`, as `as_text` returned it."""
    path = folder / text
    if "\\x" not in text or path.exists():
        return path
    return folder / os.fsdecode(_ESCAPED.sub(lambda byte: bytes.fromhex(byte[1].decode()), text.encode()))


def changed(path: Path, how: str) -> UserError:
    """The error for a file of a linked folder that is not what it was when the folder was looked over."""
    return UserError(f"{path}: {how} since the folder was linked; run `dcgan data link`, then `dvc repro`.")


class LooseFiles:
    """The files of a folder outside of the project, with the hashes that they had when the folder was looked over."""

    def __init__(self, folder: Path, hashes: Mapping[str, str]) -> None:
        """Takes the SHA-256s of the files by their names relative to the folder, see `as_text`."""
        self._folder, self._hashes = folder, hashes

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, verified by their SHA-256.

        Raises:
            UserError: the file has changed, is gone, or cannot be read.
            ValueError: it is too large.
        """
        path = as_path(self._folder, name)
        try:
            if (size := path.stat().st_size) > MOST_BYTES:
                raise ValueError(f"{size:,} bytes are too many")
            data = path.read_bytes()
        except FileNotFoundError:
            raise changed(path, "it has gone") from None
        except OSError as error:
            raise changed(path, f"it cannot be read any more ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != self._hashes[name]:
            raise changed(path, "it has changed")
        return data
