"""The DVC experiment that a run belongs to, and the name of the run."""

from __future__ import annotations

import json
import os

from dcgan.params import override_value, parse
from dcgan.system.errors import UserError
from dcgan.system.project_files import GENERATOR, METRICS
from dcgan.tracking.experiments import Experiment, Result, experiment_with
from dcgan.tracking.repository import commit, git
from dcgan.tracking.run_folder import evaluation_id
from pipeline.support.dvc_files import ROOT
from pipeline.support.inputs import md5
from pipeline.support.stage import all_params

_LONGEST = 60  # characters of a name, about as wide as the column of MLflow's table


def name_and_tags(restored: bool) -> tuple[str, dict[str, str]]:
    """The name of a run, and the tags of its experiment.

    The name is that of the DVC experiment, else what differs from the committed params.yaml, else the commit.

    Args:
        restored: whether DVC may have restored the result in this folder, so that the experiment can be one that DVC
            lists with this result.
    """
    experiment = _running() or (_listed() if restored else None)
    if experiment:
        return experiment.name, experiment.tags
    return _difference() or commit(ROOT, 7) or "no commit", {}


def _running() -> Experiment | None:
    name = os.environ.get("DVC_EXP_NAME")
    return Experiment(name, os.environ.get("DVC_EXP_BASELINE_REV", "")) if name else None


def _listed() -> Experiment | None:
    evaluation = evaluation_id(json.loads(METRICS.read_bytes())) if METRICS.exists() else ""
    return experiment_with(ROOT, Result(md5(GENERATOR), evaluation)) if GENERATOR.exists() else None


def changed_params() -> dict[str, str] | None:
    """The parameters that differ from the committed params.yaml, in its order; None if there is none."""
    text = git(ROOT, "show", "HEAD:./params.yaml").stdout
    try:
        committed = parse(text).model_dump()
    except UserError:  # no such file, or one of another version of the code
        return None
    present = all_params().model_dump()
    changed = sorted((key for key in present if present[key] != committed[key]), key=lambda key: text.find(f"\n{key}:"))
    return {key: "empty" if present[key] is None else override_value(present[key]) for key in changed}


def _difference() -> str:
    """The changed parameters, as `lr 0.0004, seed 2`; empty if there are none, or none to compare with."""
    parts = [f"{key} {value}" for key, value in (changed_params() or {}).items()]
    name, shown = ", ".join(parts), len(parts)
    while len(name) > _LONGEST and shown > 1:
        shown -= 1
        name = f"{', '.join(parts[:shown])} and {len(parts) - shown} more"
    return name
