"""What git knows of a folder."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs git in a folder; where git is not installed, a command that failed."""
    command = ["git", *words]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")


def commit(folder: Path, length: int = 40) -> str:
    """The commit that is checked out; empty if there is none."""
    parsed = git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    return parsed.stdout.strip()[:length] if parsed.returncode == 0 else ""


def patch_name(of_commit: str) -> str:
    """Under which name a run keeps what differed from its commit."""
    return f"lineage/uncommitted-{of_commit[:12]}.patch"


def uncommitted(folder: Path, paths: Sequence[str]) -> bytes | None:
    """The difference of these paths from the commit, new files included, as a patch; empty if there is none.

    Files named `.env` or the like are left out. None where git cannot say it. The patch is the same whatever the
    user's configuration of git is.
    """
    existing = [path for path in paths if (folder / path).exists()] + [":(exclude,glob)**/.env*"]
    form = ["--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"]
    with tempfile.TemporaryDirectory() as temporary:
        index = os.environ | {"GIT_INDEX_FILE": str(Path(temporary) / "index")}  # the user's own stays as it is
        patch = b""
        for words in (
            ["read-tree", "HEAD"],
            ["add", "--all", "--", *existing],
            ["diff-index", "--cached", "--patch", *form, "HEAD", "--", *paths],
        ):
            try:
                result = subprocess.run(["git", *words], cwd=folder, env=index, capture_output=True, check=True)
            except (subprocess.CalledProcessError, OSError):
                return None
            patch = result.stdout
        return patch
