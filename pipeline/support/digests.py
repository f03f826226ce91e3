"""Digests of what a stage depends on, as in dvc.lock, and a hash of its code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dcgan.tracking.machine import packages
from dcgan.tracking.run import Run, harmless
from pipeline.support.stage import ROOT


def code_digest(stage: str) -> str:
    """A SHA-256 of the Python files that dvc.yaml lists as dependencies of the stage, in hexadecimal."""
    sha = hashlib.sha256()
    for path in sorted(dep for dep in _stages()[stage]["deps"] if dep.endswith(".py")):
        sha.update(path.encode() + b"\0" + (ROOT / path).read_bytes())
    return sha.hexdigest()


def md5(path: Path) -> str:
    """The MD5 of a file's bytes in hexadecimal, as DVC computes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def digests(stage: str) -> dict[str, dict[str, dict[str, str]]]:
    """The MD5 digests in dvc.lock of all stages that `stage` depends on, by stage, side (deps, outs) and path.

    The stage itself is left out, since dvc.lock lists a stage only after it has ended.
    """
    stages, path = _stages(), ROOT / "dvc.lock"
    lock = yaml.safe_load(path.read_text())["stages"] if path.exists() else {}
    found: dict[str, dict[str, dict[str, str]]] = {}

    def follow(name: str) -> None:
        for above, about in stages.items():
            if above not in found and above in lock and set(_outs(about)) & set(stages[name].get("deps", [])):
                follow(above)
                sides = {side: lock[above].get(side, []) for side in ("deps", "outs")}
                found[above] = {side: {each["path"]: each["md5"] for each in sides[side]} for side in sides}

    follow(stage)
    return found


def describe_lineage(run: Run, stage: str) -> None:
    """Logs the digests of what the run depends on, and the installed packages."""
    with harmless("the lineage"):
        run.artifact("lineage/digests.json", json.dumps(digests(stage), indent=2))
        run.artifact("lineage/requirements.txt", packages())


def _stages() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


def _outs(stage: Mapping[str, Any]) -> list[str]:
    named = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in named]
