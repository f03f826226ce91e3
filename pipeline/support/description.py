"""The description of a run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.params import load_preset, preset_names
from dcgan.system.project_files import PRESETS
from dcgan.tracking.run import Run, harmless
from dcgan.tracking.run_folder import UNEVALUATED
from pipeline.support.dvc_files import ROOT, stages
from pipeline.support.run_name import changed_params
from pipeline.support.stage import all_params


def describe(run: Run, metrics: Mapping[str, Any] | None = None) -> None:
    """Gives a run its description.

    Args:
        metrics: contents of reports/metrics.json; None: the run is not evaluated yet.
    """
    if run.folder is None:  # nothing is logged
        return
    from dcgan.report import description

    with harmless("the description"):
        presets = {name: load_preset(ROOT / PRESETS, name).model_dump() for name in preset_names(ROOT / PRESETS)}
        names = stages()["report"]["params"]  # all, in the order of params.yaml
        params = {key: getattr(all_params(), key) for key in names}
        note = description.render(params, presets, changed_params(), metrics)
        run.describe(note=note if metrics else f"{UNEVALUATED}\n\n{note}")
