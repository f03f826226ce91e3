"""What dvc.yaml and dvc.lock say. Imported before the code of a stage, it imports nothing of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]  # in a queued experiment, the temporary copy of the project


@cache
def stages() -> dict[str, Any]:
    """The stages in dvc.yaml; none if there is no such file."""
    read: dict[str, Any] = _yaml("dvc.yaml")["stages"] if (ROOT / "dvc.yaml").exists() else {}
    return read


def locked() -> dict[str, Any]:
    """The entries of dvc.lock by stage; a stage that is running has none, or an old one."""
    return _yaml("dvc.lock").get("stages", {}) if (ROOT / "dvc.lock").exists() else {}


def outs_of(stage: str) -> list[str]:
    """The paths of a stage's outs, metrics and plots."""
    named = (out for side in ("outs", "metrics", "plots") for out in stages()[stage].get(side, []))
    return [next(iter(out)) if isinstance(out, dict) else out for out in named]


def above(stage: str) -> set[str]:
    """The stages that `stage` depends on, directly or not."""
    deps = set(stages()[stage].get("deps", []))
    direct = {name for name in stages() if deps & set(outs_of(name))}
    return direct.union(*(above(name) for name in direct))


def files_inside(folder: Path) -> Iterator[Path]:
    """All files in a folder; links are followed, each folder is searched once."""
    searched = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in searched:
            folders.clear()
        searched.add(real)
        yield from (Path(at, name) for name in names)


def _yaml(name: str) -> Any:
    # In C if it can be, which is ten times as fast.
    return yaml.load((ROOT / name).read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
