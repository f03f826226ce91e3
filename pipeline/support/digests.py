"""MD5 of what a stage read and wrote, as DVC knows it."""

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
    digests_of: dict[str, dict[str, dict[str, str]]] = {}

    def follow(name: str) -> None:
        for dep in stages[name].get("deps", []):
            above = wrote.get(dep)
            if above in lock and above not in digests_of:
                follow(above)
                sides = {side: lock[above].get(side, []) for side in ("deps", "outs")}
                digests_of[above] = {side: {each["path"]: each["md5"] for each in sides[side]} for side in sides}

    follow(stage)
    known = {path: digest for of in digests_of.values() for path, digest in of["outs"].items()}
    own = {"deps": stages[stage].get("deps", []), "outs": _outs(stages[stage])}
    hashed = {path: md5(ROOT / path) for paths in own.values() for path in paths if (ROOT / path).is_file()}
    digests_of[stage] = {side: {path: d for path in own[side] if (d := (hashed | known).get(path))} for side in own}
    return digests_of


def describe_lineage(run: Run, stage: str) -> None:
    """Gives the run the digests of what it was made from and of what came of it, and the packages."""
    with harmless("the lineage"):
        run.artifact("lineage/digests.json", json.dumps(digests(stage), indent=2))
        run.artifact("lineage/requirements.txt", packages())


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
