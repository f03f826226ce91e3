"""What a source of pictures is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Request(NamedTuple):
    """The arguments of every source's `bring`; a source takes of them what it needs."""

    size: int | None  # how many pictures to draw; or the most to take, chosen by hash of their names, None: all
    seed: int  # of pictures that are drawn
    downloads: Path  # fetched files are kept there, and files put there by hand are found
    folder: Path  # the user's own pictures, ...
    inventory: Path  # ... and their list
    mirror: str | None  # the user's own server of the published files
