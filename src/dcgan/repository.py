"""What git knows of a folder."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def git(
    folder: Path, *words: str, text: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs git in a folder; where git is not installed, a command that failed."""
    command = ["git", *words]
    try:
        return subprocess.run(
            command, cwd=folder, input=text, env=os.environ | (env or {}), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")


def commit(folder: Path, length: int = 40) -> str:
    """The commit that is checked out; empty if there is none."""
    found = git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    return found.stdout.strip()[:length] if found.returncode == 0 else ""


def uncommitted(folder: Path, paths: Sequence[str]) -> str:
    """The difference of these paths from the commit, new files included, as a patch; empty if there is none."""
    if not commit(folder):
        return ""
    there = [path for path in paths if (folder / path).exists()]
    with tempfile.TemporaryDirectory() as temporary:
        index = {"GIT_INDEX_FILE": str(Path(temporary) / "index")}  # the user's own stays as it is
        git(folder, "read-tree", "HEAD", env=index)
        git(folder, "add", "--all", "--", *there, env=index)
        return git(folder, "diff", "--cached", "--binary", "HEAD", "--", *paths, env=index).stdout
