"""Digests of what a stage depends on, as in dvc.lock, and a hash of its code."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dcgan.tracking.machine import packages
from dcgan.tracking.run import Run, harmless
from pipeline.support.dvc_files import above, locked
from pipeline.support.inputs import TAKEN, take


def code_digest(stage: str) -> str:
    """A SHA-256 of the code that the stage depends on, as it was when the stage started, in hexadecimal."""
    code = (TAKEN or take(stage)).code
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


def entries(stage: str) -> dict[str, Any]:
    """The entries of dvc.lock by stage; that of the running stage, which DVC has not written yet, lists its code."""
    code = TAKEN.code if TAKEN and TAKEN.stage == stage else {}
    own = {stage: {"deps": [{"path": path, "md5": md5} for path, md5 in code.items()]}} if code else {}
    return locked() | own


def digests(stage: str) -> dict[str, dict[str, dict[str, str]]]:
    """The MD5 digests in dvc.lock of all stages that `stage` depends on, by stage, side (deps, outs) and path.

    The stage itself is left out, since dvc.lock lists a stage only after it has ended.
    """
    return {
        name: {side: {each["path"]: each["md5"] for each in entry.get(side, [])} for side in ("deps", "outs")}
        for name, entry in locked().items()
        if name in above(stage)
    }


def describe_lineage(run: Run, stage: str) -> None:
    """Logs the digests of what the run depends on, and the installed packages."""
    with harmless("the lineage"):
        run.artifact("lineage/digests.json", json.dumps(digests(stage), indent=2))
        run.artifact("lineage/requirements.txt", packages())
