"""What MLflow is told of a generator: its pictures and its distances."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dcgan.metrics.names import SETTINGS
from dcgan.system.files import sha256
from dcgan.tracking.run import Run, harmless
from dcgan.tracking.run_folder import EVALUATION, GENERATOR_SHA256
from dcgan.tracking.sender import sending
from pipeline.support.digests import describe_lineage, md5
from pipeline.support.model_version import model_version
from pipeline.support.run_identity import new_run
from pipeline.support.stage import GENERATOR, MAIN_ROOT, NEIGHBOURS, PICTURES, REPORTS


def record_samples() -> None:
    """Logs the pictures."""
    with harmless("the samples"), sending(MAIN_ROOT):
        describe_samples()


def record_evaluation(stage: str) -> None:
    """Logs the distances in metrics.json, and registers the generator.

    The report does so too, for a store that has not seen an evaluation which DVC restored from its cache.
    """
    with harmless("the evaluation"), sending(MAIN_ROOT):
        describe_evaluation(stage)


def describe_samples() -> None:
    """Writes what MLflow is to hold of the pictures."""
    with _generator_run() as run:
        for name in PICTURES:
            run.artifact(name, REPORTS / name)
        describe_lineage(run, "sample")


def describe_evaluation(stage: str) -> None:
    """Writes what MLflow is to hold of the evaluation in metrics.json.

    It is known by its settings and numbers, so that rewritten code that measures the same is the same.
    """
    metrics: dict[str, Any] = json.loads((REPORTS / "metrics.json").read_text())
    settings = {key: metrics[name] for key, name in SETTINGS.items()}
    numbers = hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:32]
    with _generator_run():
        pass
    with new_run({GENERATOR_SHA256: sha256(GENERATOR), EVALUATION: numbers}, settings=settings).open() as run:
        run.artifact(NEIGHBOURS.name, NEIGHBOURS)
        run.metrics(0, {key: value for key, value in metrics.items() if isinstance(value, float)})
        run.describe(registered=model_version(metrics))
        describe_lineage(run, stage)


@contextmanager
def _generator_run() -> Iterator[Run]:
    """The run of the present generator; a store that has never seen it is told all that is known of it."""
    with new_run({GENERATOR_SHA256: sha256(GENERATOR)}).open() as run:
        with (REPORTS / "losses.csv").open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        curves = {int(row.pop("step")): row for row in rows}
        run.describe(tags={"generator_md5": md5(GENERATOR)}, restored=curves)
        run.model(GENERATOR)
        grids = sorted((REPORTS / "progress").glob("*.png"))
        for number, grid in enumerate(grids):
            run.grid(number * (max(curves) // max(1, len(grids) - 1)), grid)
        yield run
