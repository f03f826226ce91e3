"""A folder outside of the project that holds the user's own pictures, and the list of its files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Linked(NamedTuple):
    """A linked folder, as it was when it was last looked over."""

    folder: Path
    files: pd.DataFrame  # file, size, mtime_ns, sha256, problem (empty for a picture), sorted by file
