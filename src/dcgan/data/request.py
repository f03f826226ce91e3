"""The request that every data source receives."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dcgan.data.links import Linked


class Request(NamedTuple):
    """The arguments of every source's `bring`; a source uses those that it needs."""

    size: int | None  # number of pictures to draw, or maximum number to take by hash of their names; None: all
    seed: int  # of the drawn pictures
    downloads: Path  # folder of the fetched files, and of files put there by hand
    folder: Path  # the user's own pictures
    inventory: Path  # list of the user's own pictures
    mirror: str | None  # address of the user's own server with the published files
    linked: Linked | None = None  # the folder outside of the project that `dcgan data link` named
