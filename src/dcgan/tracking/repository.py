"""Reads the state of a folder from git."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs git in a folder; if git is not installed, the result has exit status 127."""
    command = ["git", *words]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")


def commit(folder: Path, length: int = 40) -> str:
    """The first `length` digits of the hash of the checked-out commit; empty if there is none."""
    parsed = git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    return parsed.stdout.strip()[:length] if parsed.returncode == 0 else ""


def patch_name(of_commit: str) -> str:
    """The artifact name under which a run keeps its difference from the commit."""
    return f"lineage/uncommitted-{of_commit[:12]}.patch"


def uncommitted(folder: Path, paths: Sequence[str]) -> bytes | None:
    """The difference between these paths and the commit as a patch, including new files; empty if there is none.

    Files whose names begin with `.env` are left out. The patch does not depend on the user's git configuration. The
    result is None if git fails.
    """
    existing = [path for path in paths if (folder / path).exists()] + [":(exclude,glob)**/.env*"]
    form = ["--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"]
    with tempfile.TemporaryDirectory() as temporary:
        index = os.environ | {"GIT_INDEX_FILE": str(Path(temporary) / "index")}  # leaves the user's index unchanged
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
