"""What came of a run, in the last lines of the stage `report` and of `make repro`.

This is not a stage; `make repro` runs `python -m pipeline.support.summary SECONDS` after DVC, and sets DCGAN_SUMMARY=0
for the stage, so that they are printed once, and also if no stage had to run.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import FID, distance_name
from dcgan.report import pictures
from dcgan.report.judgement import judge, number
from dcgan.system.project_files import METRICS, REPORTS
from dcgan.tracking import evaluated
from dcgan.tracking.run_folder import evaluation_id, spool_of, tracking_is_on
from pipeline.support.dvc_files import ROOT
from pipeline.support.stage import MAIN_ROOT


def summary(seconds: int | None = None) -> None:
    """Prints the distance beside the floor, the untrained generator and the best known run, and where to see more.

    Args:
        seconds: how long everything took; None: this is the stage, which is silent under `make repro`.
    """
    if seconds is None and os.environ.get("DCGAN_SUMMARY") == "0":
        return
    metrics = json.loads((ROOT / METRICS).read_text())
    samples, real = ((ROOT / REPORTS / name).read_bytes() for name in ("samples.png", "real.png"))
    judgement = judge(metrics, pictures.variety(samples, real, metrics["resolution"]))
    rows = _distances(metrics)
    known = evaluated.read(spool_of(MAIN_ROOT), evaluation_id(metrics)) if tracking_is_on() else None
    if known:
        rows.append(("best", known.best_run()))
    applied = "" if ROOT == MAIN_ROOT else f", after `dvc exp apply {os.environ.get('DVC_EXP_NAME', 'NAME')}`"
    rows.append(("report", f"{REPORTS / 'report.html'}{applied}"))
    if known:
        rows.append(("MLflow", f"{known.name}: {known.address()}"))
    elif tracking_is_on():
        rows.append(("MLflow", "not logged yet; `dcgan sync` logs it"))
    if seconds is not None:
        rows.append(("time", f"{seconds // 60} min {seconds % 60} s"))
    lines = (f"{name:11}{text}" for name, text in rows)
    print("", *lines, *textwrap.wrap(judgement.sentence, 80), sep="\n", flush=True)


def _distances(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    name = distance_name(metrics)
    if metrics.get(name) is None:
        return []
    spread = metrics.get(f"{name}_std")
    said = f"{metrics[name]:g}{f' ± {number(spread)}' if spread is not None else ''}, "
    said += "FID" if name == FID else f"Frechet distance with {metrics['network']}"
    rows = [("distance", said)]
    if floor := metrics.get(f"{name}_floor"):
        few, count = metrics[f"{name}_at_floor_count"], metrics["floor_count"]
        beside = f"; this run with as many: {few:g}" if count != metrics["samples"] else ""
        rows.append(("floor", f"{floor:g}, {count:,} real faces{beside}"))
    return [*rows, ("untrained", f"{metrics[f'{name}_untrained']:g}")]


if __name__ == "__main__":
    summary(int(sys.argv[1]) if len(sys.argv) > 1 else None)
