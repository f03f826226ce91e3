"""Logs the pictures and the evaluation of a generator to MLflow."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dcgan.metrics.names import COUNTS, SETTINGS, distance_name
from dcgan.system.files import sha256
from dcgan.system.project_files import GENERATOR, LOSSES, METRICS, NEIGHBOURS, REPORT, REPORTS
from dcgan.tracking.measured import protocol
from dcgan.tracking.run import Run, harmless
from dcgan.tracking.run_folder import EVALUATION, GENERATOR_SHA256, PROTOCOL, RESTORED, evaluation_id, tracking_is_on
from dcgan.tracking.sender import sending
from pipeline.support import description
from pipeline.support.digests import describe_lineage, entries
from pipeline.support.inputs import md5
from pipeline.support.model_version import model_version
from pipeline.support.run_identity import new_run
from pipeline.support.stage import MAIN_ROOT, SAMPLED


def record(what: str, describe: Callable[[], None]) -> None:
    """Logs what `describe` writes: the samples, or the evaluation.

    The stage `report` logs the evaluation too: if DVC restored it from its cache, the store may lack it.
    """
    if tracking_is_on():
        with harmless(what), sending(MAIN_ROOT):
            describe()


def describe_samples() -> None:
    """Writes the pictures into a run folder, to be uploaded to MLflow."""
    with _generator_run() as run:
        for name in SAMPLED:
            run.artifact(name, REPORTS / name)
        describe_lineage(run, "sample")


def describe_evaluation(stage: str) -> None:
    """Writes the evaluation in metrics.json into a run folder, to be uploaded to MLflow.

    It is identified by the contents of metrics.json, so that changed code with equal results gives the same evaluation.
    """
    metrics: dict[str, Any] = json.loads(METRICS.read_text())
    settings = {key: metrics[name] for key, name in SETTINGS.items()}
    identity = {GENERATOR_SHA256: sha256(GENERATOR), EVALUATION: evaluation_id(metrics)}
    with _generator_run() as run:
        run.artifact(LOSSES.name, LOSSES)
    tags = {} if stage == "evaluate" else {RESTORED: "true"}  # another stage only opens a run if DVC restored it
    with new_run(identity, tags, settings).open() as run:
        for path in (METRICS, NEIGHBOURS, REPORT)[: 3 if stage == "report" else 2]:  # before, the report is an old one
            run.artifact(path.name, path)
        description.describe(run, metrics)
        values = {key: value for key, value in metrics.items() if isinstance(value, float)}
        run.metrics(0, values | {key: float(metrics[key] or 0) for key in COUNTS})
        run.describe(tags={PROTOCOL: json.dumps(protocol(metrics, entries(stage)))})
        if distance_name(metrics) in metrics:  # otherwise there were too few faces, and no version to compare
            run.describe(registered=model_version(metrics))
        describe_lineage(run, stage)


@contextmanager
def _generator_run() -> Iterator[Run]:
    """Opens the run of the current generator, with all that a store needs that has no run of this generator yet."""
    with new_run({GENERATOR_SHA256: sha256(GENERATOR)}).open() as run:
        with LOSSES.open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        curves = {int(row.pop("step")): row for row in rows}
        run.describe(tags={"generator_md5": md5(GENERATOR)}, restored=curves)
        run.model(GENERATOR)
        grids = sorted((REPORTS / "progress").glob("*.png"))
        for number, grid in enumerate(grids):
            run.grid(number * (max(curves) // max(1, len(grids) - 1)), grid)
        yield run
