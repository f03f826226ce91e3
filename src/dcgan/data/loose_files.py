"""Reads pictures from a folder outside of the project, whose files may change at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from dcgan.data.archives import MOST_BYTES
from dcgan.data.file_names import as_path
from dcgan.system.errors import UserError


def changed(path: Path, how: str) -> UserError:
    """The error for a file of a linked folder that is not what it was when the folder was looked over."""
    return UserError(f"{path}: {how} since the folder was linked; run `dcgan data link`, then `dvc repro`.")


class LooseFiles:
    """The files of a folder outside of the project, with the hashes that they had when the folder was looked over."""

    def __init__(self, folder: Path, hashes: Mapping[str, str]) -> None:
        """Takes the SHA-256s of the files by their names relative to the folder, see `file_names.as_text`."""
        self._folder, self._hashes = folder, hashes

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, verified by their SHA-256.

        Raises:
            UserError: the file has changed, is gone, or cannot be read.
            ValueError: it is too large.
        """
        path = Path(as_path(self._folder, name))
        try:
            if (size := path.stat().st_size) > MOST_BYTES:
                raise ValueError(f"it has {size:,} bytes, more than the limit of {MOST_BYTES:,} bytes")
            data = path.read_bytes()
        except FileNotFoundError:
            raise changed(path, "it has been removed") from None
        except OSError as error:
            raise changed(path, f"it has become unreadable ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != self._hashes[name]:
            raise changed(path, "it has changed")
        return data
