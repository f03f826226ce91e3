"""The identity of a run: code, commit, experiment, parameters, machine. None of this is written to an out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dcgan.schema import CropParams, DownloadParams, Section, TrainParams
from dcgan.tracking.machine import machine
from dcgan.tracking.repository import commit, patch_name, uncommitted
from dcgan.tracking.run import Run, harmless
from dcgan.tracking.run_folder import GENERATOR_SHA256, Description, spool_of, texts, tracking_is_on
from pipeline.support.dvc_files import ROOT
from pipeline.support.run_name import name_and_tags
from pipeline.support.stage import MAIN_ROOT, all_params

# Paths that determine a result and are tracked by git; a run keeps their difference from the commit as a patch.
_DATA = ("data/folder.dvc", "data/link.json")
SOURCES = ("src", "pipeline", *_DATA, "dvc.yaml", "params.yaml", "requirements.txt", "pyproject.toml")


def training_params() -> dict[str, Any]:
    """All parameters that determine a generator; used only for MLflow."""
    return data_params() | _values(TrainParams)


def data_params() -> dict[str, Any]:
    """All parameters that determine the faces."""
    return _values(DownloadParams) | _values(CropParams)


def _values(section: type[Section]) -> dict[str, Any]:
    return all_params().section(section).model_dump()


def new_run(
    identity: Mapping[str, str], tags: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Run:
    """Creates a run with its identity, and records the difference from the commit before it can change.

    With DCGAN_TRACKING=0 the run is not kept.

    Args:
        identity: tags by which the run is found.
        tags: further tags.
        settings: parameters of the evaluation.
    """
    origin: tuple[dict[str, str], dict[str, bytes]] = {}, {}
    name, experiment = "no name", dict[str, str]()
    with harmless("the lineage"):
        name, experiment = name_and_tags(restored=GENERATOR_SHA256 in identity)
        origin = _origin()
    spool = spool_of(MAIN_ROOT) if tracking_is_on() else None
    about = texts(training_params()), texts(settings or {}), origin[0] | experiment | dict(tags or {})
    return Run(spool, Description(dict(identity), name, *about), origin[1])


@cache  # a stage may open several runs
def _origin() -> tuple[dict[str, str], dict[str, bytes]]:
    """The origin of a run, as tags and a patch.

    Returns:
        Tags with the commit, whether code or parameters differ from it, the command and the machine; and the
        difference from the commit as a patch, by file name, empty if there is none.
    """
    head = commit(ROOT)
    patch = uncommitted(ROOT, SOURCES) if head else b""
    tags = {
        "git_commit": head,
        "git_dirty": ("unknown" if patch is None else str(bool(patch)).lower()) if head else "",
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": head,
        **machine(),
    }
    return {name: value for name, value in tags.items() if value}, {patch_name(head): patch} if patch else {}
