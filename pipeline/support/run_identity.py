"""What a run is named and known by: code, commit, experiment, parameters, machine. Nothing of it goes into an out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dcgan.params import CropParams, DownloadParams, Section, TrainParams, load
from dcgan.tracking.machine import machine
from dcgan.tracking.repository import commit, patch_name, uncommitted
from dcgan.tracking.run import Run, harmless
from dcgan.tracking.run_folder import Description, spool_of, texts
from pipeline.support.stage import MAIN_ROOT, ROOT

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


def new_run(
    identity: Mapping[str, str], tags: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Run:
    """A run with what it is known by, and with what differs from the commit, before that can change.

    It is named after the DVC experiment, or the commit. With DCGAN_TRACKING=0 nothing is kept of it.
    """
    origin: tuple[dict[str, str], dict[str, bytes]] = {}, {}
    with harmless("the lineage"):
        origin = _origin()
    name = os.environ.get("DVC_EXP_NAME") or commit(ROOT, 7) or "no commit"
    spool = spool_of(MAIN_ROOT) if os.environ.get("DCGAN_TRACKING") != "0" else None
    about = texts(training_params()), texts(settings or {}), origin[0] | dict(tags or {})
    return Run(spool, Description(dict(identity), name, *about), origin[1])


@cache  # a stage may open several runs, of one tree
def _origin() -> tuple[dict[str, str], dict[str, bytes]]:
    """Tags: the commit, whether code or parameters differ from it, the DVC experiment, the command, the machine.

    And what differs, as a patch by its name.
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
    return {name: value for name, value in tags.items() if value}, {patch_name(head): patch} if patch else {}
