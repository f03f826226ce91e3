"""Environments that hold a few of the installed packages and what these need, and nothing of this project."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from packaging.requirements import Requirement


def bare_python(folder: Path, *packages: str) -> Path:
    """Creates an environment with links to the packages; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    installed = Path(sysconfig.get_path("purelib"))
    for package in _with_needs(packages):
        tops = {Path(file).parts[0] for file in importlib.metadata.files(package) or []}
        for top in tops - {"..", "__pycache__", "bin"}:
            if not (site / top).is_symlink():
                (site / top).symlink_to(installed / top)
    return python


def run_bare(python: Path, code: str, folder: Path) -> str:
    """Runs code in an environment, in a folder; returns what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(python), "-I", "-c", code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _with_needs(packages: tuple[str, ...]) -> set[str]:
    """The packages, and all that they need on this system, without extras."""
    found: set[str] = set()
    waiting = [*packages]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = [Requirement(text) for text in importlib.metadata.requires(name) or []]
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found
