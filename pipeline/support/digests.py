"""MD5 of what a stage read and wrote, as DVC knows it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.stage import ROOT

import yaml


def code_digest(stage: str) -> str:
    """A hash of the code that dvc.yaml names as the stage's dependencies."""
    sha = hashlib.sha256()
    for path in sorted(dep for dep in _stages()[stage]["deps"] if dep.endswith(".py")):
        sha.update(path.encode() + b"\0" + (ROOT / path).read_bytes())
    return sha.hexdigest()


def md5(path: Path) -> str:
    """As DVC hashes a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def digests(stage: str) -> dict[str, dict[str, dict[str, str]]]:
    """By stage, side (deps, outs) and path: of the stage and of all that it follows from.

    dvc.lock has a stage only after its end, so the stage's own files are hashed here; of its folders those are known
    that another stage wrote.
    """
    stages, lock = _stages(), _locked()
    wrote = {out: name for name, about in stages.items() for out in _outs(about)}
    found: dict[str, dict[str, dict[str, str]]] = {}

    def follow(name: str) -> None:
        for dep in stages[name].get("deps", []):
            above = wrote.get(dep)
            if above in lock and above not in found:
                follow(above)
                entries = {side: lock[above].get(side, []) for side in ("deps", "outs")}
                found[above] = {side: {each["path"]: each["md5"] for each in entries[side]} for side in entries}

    follow(stage)
    known = {path: digest for of in found.values() for path, digest in of["outs"].items()}
    own = {"deps": stages[stage].get("deps", []), "outs": _outs(stages[stage])}
    for side, paths in own.items():
        hashed = {path: md5(ROOT / path) for path in paths if path not in known and (ROOT / path).is_file()}
        there = {path: known[path] for path in paths if path in known}
        found.setdefault(stage, {})[side] = there | hashed
    return found


def _stages() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


def _locked() -> dict[str, Any]:
    path = ROOT / "dvc.lock"
    locked: dict[str, Any] = yaml.safe_load(path.read_text())["stages"] if path.exists() else {}
    return locked


def _outs(stage: Mapping[str, Any]) -> list[str]:
    named = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in named]
