"""Where a Python that is started looks for modules first."""

from __future__ import annotations

import os
from pathlib import Path


def python_path(first: Path) -> str:
    """A PYTHONPATH that begins with `first`, and goes on with the one of this process."""
    present = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(first), *([present] if present else [])])
