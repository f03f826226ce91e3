"""The environment of somebody who uses git and the tools of this project's environment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest


def as_a_user(patch: pytest.MonkeyPatch) -> None:
    """With git's names, and the tools of this environment first."""
    patch.setenv("PATH", f"{Path(sys.executable).parent}:{Path(shutil.which('git') or '').parent}:/usr/bin:/bin")
    for name in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{name}_NAME", "test")
        patch.setenv(f"GIT_{name}_EMAIL", "test@example.com")
