"""What a run is named and known by: code, commit, experiment, parameters, machine. Nothing of it goes into an out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from support.digests import digests
from support.stage import ROOT

from dcgan.params import CropParams, DownloadParams, Section, TrainParams, load
from dcgan.tracking.events import Run, harmless
from dcgan.tracking.machine import machine, packages
from dcgan.tracking.repository import commit, patch_name, uncommitted

# What decides a result and git knows; where it differs from the commit, the run keeps the difference.
SOURCES = ("src", "pipeline", "data/folder.dvc", "dvc.yaml", "params.yaml", "requirements.txt", "pyproject.toml")


def training_params() -> dict[str, Any]:
    """Every parameter that decides a generator, for MLflow alone."""
    return data_params() | _values(TrainParams)


def data_params() -> dict[str, Any]:
    """Every parameter that decides the faces."""
    return _values(DownloadParams) | _values(CropParams)


def _values(section: type[Section]) -> dict[str, Any]:
    return load(ROOT / "params.yaml").section(section).model_dump()


def open_run(run: Run, tags: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None) -> None:
    """Opens the run with what it is known by, and gives it what differs from the commit, before that can change.

    It is named after the DVC experiment, or the commit.
    """
    known: dict[str, str] = {}
    name, patch = "", b""
    with harmless("the lineage"):
        known, name, patch = _origin()
    run_name = os.environ.get("DVC_EXP_NAME") or commit(ROOT, 7) or "no commit"
    run.open(run_name, training_params(), {**known, **(tags or {})}, settings)
    if patch:
        run.text(name, patch, once=True)


@cache  # a stage may open several runs, of one tree
def _origin() -> tuple[dict[str, str], str, bytes]:
    """Tags: the commit, whether code or parameters differ from it, the DVC experiment, the command, the machine.

    And what differs, as a patch, after the name under which a run keeps it.
    """
    head = commit(ROOT)
    patch = uncommitted(ROOT, SOURCES) if head else b""
    tags = {
        "git_commit": head,
        "git_dirty": ("unknown" if patch is None else str(bool(patch)).lower()) if head else "",
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": head,
        **machine(),
    }
    return {name: value for name, value in tags.items() if value}, patch_name(head), patch or b""


def tell_lineage(run: Run, stage: str) -> None:
    """Gives the run the digests of what it was made from and of what came of it, and the packages."""
    with harmless("the lineage"):
        run.text("lineage/digests.json", json.dumps(digests(stage), indent=2))
        run.text("lineage/requirements.txt", packages())
