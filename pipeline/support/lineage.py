"""A file beside the outs of each stage that says what made them, so that a wrong entry of dvc.lock is noticed.

It holds the parameters of the stage and the MD5 of its deps as they were when the stage started. DVC caches it with the
other outs, and restores it with them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dcgan.params import parse
from dcgan.system.errors import UserError
from dcgan.system.project_files import REPORTS
from pipeline.support.dvc_files import ROOT, above, locked, stages
from pipeline.support.inputs import Inputs, md5


def path(stage: str) -> Path:
    """The lineage file of a stage."""
    return REPORTS / "lineage" / f"{stage}.json"


def describe(taken: Inputs) -> dict[str, dict[str, Any]]:
    """The content of the lineage file of a stage with these inputs."""
    values, lock = parse(taken.params).model_dump(), locked()
    outs = {out["path"]: out["md5"] for name in above(taken.stage) for out in lock.get(name, {}).get("outs", [])}
    return {
        "params": {key: values[key] for key in stages()[taken.stage].get("params", [])},
        "deps": taken.code | {dep: outs[dep] for dep in taken.data if dep in outs},
    }


def _disagreement(stage: str, entry: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Says how a stage's entry, as in dvc.lock, disagrees with its lineage file; None if it does not."""
    recorded = {
        "params": entry.get("params", {}).get("params.yaml", {}),
        "deps": {dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
    }
    for side, values in made.items():
        for name, value in values.items():
            known = recorded[side].get(name, value)
            if str(known) != str(value) and not _equal(known, value):
                return f"the outs of {stage} were made with {name} {value}, but it is recorded as {known}"
    return None


def check(names: Collection[str]) -> None:
    """Compares the entries of stages in dvc.lock with their lineage files, where those belong to the entries.

    Raises:
        UserError: an entry says that the outs of the stage were made with something else.
    """
    for name, entry in locked().items():
        file = ROOT / path(name)
        outs = {out["path"]: out["md5"] for out in entry.get("outs", [])}
        if name not in names or not file.is_file() or md5(file) != outs.get(path(name).as_posix()):
            continue
        if said := _disagreement(name, entry, json.loads(file.read_bytes())):
            raise UserError(f"dvc.lock: {said}; run `dvc repro --force --single-item {name}`, then `dvc repro`.")


def check_inputs(taken: Inputs) -> None:
    """Checks that the data deps of a stage exist, and the stages above it with `check`."""
    for dep in taken.data:
        if not (ROOT / dep).exists():
            raise UserError(f"{dep}: there is no such file or folder; create it with `dvc repro {taken.stage}`.")
    check(above(taken.stage))


def _equal(a: object, b: object) -> bool:
    """Whether two numbers are equal that are written differently, such as 1e-05, which YAML 1.1 reads as text."""
    try:
        return float(str(a)) == float(str(b))
    except ValueError:
        return False
