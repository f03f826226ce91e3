"""The module search path of a Python process that is started."""

from __future__ import annotations

import os
from pathlib import Path


def python_path(first: Path) -> str:
    """A value for PYTHONPATH: `first`, followed by the PYTHONPATH of this process."""
    present = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(first), *([present] if present else [])])
