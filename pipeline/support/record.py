"""What MLflow is told of a generator: its pictures and its distances."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from support.digests import md5
from support.run_identity import data_params, open_run, tell_lineage, training_params
from support.stage import FOLDER, GENERATOR, INVENTORY, MAIN_ROOT, NEIGHBOURS, PICTURES, REPORTS

from dcgan.system.files import sha256
from dcgan.tracking import events
from dcgan.tracking.spool import Spool


def record_samples() -> None:
    """Tells MLflow the pictures."""
    with events.sending(MAIN_ROOT) as spool, events.harmless("the samples"):
        run = _of_generator(spool, "sample")
        run.artifacts(*(REPORTS / name for name in PICTURES))


def record_evaluation(stage: str) -> None:
    """Tells MLflow the distances in metrics.json, and registers the generator.

    An evaluation is known by its settings and numbers, so that rewritten code that measures the same is the same.

    The report does so too, for a store that has not seen an evaluation which DVC restored from its cache.
    """
    from dcgan.report import card

    metrics: dict[str, Any] = json.loads((REPORTS / "metrics.json").read_text())
    data: dict[str, Any] = json.loads((REPORTS / "data.json").read_text())
    settings = {key: metrics[name] for key, name in events.SETTINGS.items()}
    identity = hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:32]
    metric = "fid" if "fid" in metrics else "frechet_distance"
    params = training_params()
    with events.sending(MAIN_ROOT) as spool, events.harmless("the evaluation"):
        run = _of_generator(spool, stage, identity, settings)
        run.artifacts(NEIGHBOURS)
        run.metrics({key: value for key, value in metrics.items() if isinstance(value, float)})
        name = f"dcgan-{params['dataset']}"
        run.register(name, metric, metrics[metric], _protocol(metrics), card.render(metrics, data, params))


def _of_generator(
    spool: Spool, stage: str, evaluation: str | None = None, settings: Mapping[str, Any] | None = None
) -> events.Run:
    """The run of the present generator; one that this store has never seen is told all that is known of it."""
    generator = sha256(GENERATOR)
    trained = events.Run(spool, {events.GENERATOR: generator})
    open_run(trained)
    trained.tags({"generator_md5": md5(GENERATOR)})
    trained.restored(REPORTS / "losses.csv", sorted((REPORTS / "progress").glob("*.png")))
    trained.model(GENERATOR)
    if evaluation is None:
        tell_lineage(trained, stage)
        return trained
    run = events.Run(spool, {events.GENERATOR: generator, events.EVALUATION: evaluation})
    open_run(run, settings=settings)
    tell_lineage(run, stage)
    return run


def _protocol(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """All that two distances must have in common to be compared."""
    data = data_params()
    if data["dataset"] == "folder":
        data[str(FOLDER)] = sha256(INVENTORY)
    return data | {name: metrics[name] for name in ("network", "weights_sha256", "samples", "reference_split")}
