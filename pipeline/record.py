"""What is noted outside the outs: the distances, in MLflow, and what differs between two identical runs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lineage import run_name, training_params
from stage import GENERATOR, MAIN_ROOT, NEIGHBOURS, REPORTS

import filelock

from dcgan.files import sha256, write_json


def record_evaluation() -> None:
    """Tells MLflow the distances in metrics.json, once for each evaluation.

    An evaluation is known by its settings and numbers, so that rewritten code that measures the same is the same.

    The report does so too, for a store that has not seen an evaluation which DVC restored from its cache.
    """
    from dcgan.tracking import Tracker

    metrics: dict[str, Any] = json.loads((REPORTS / "metrics.json").read_text())
    names = {"fid_network": "network", "fid_samples": "samples", "fid_repeats": "repeats"}
    names["fid_split"] = "reference_split"
    settings = {key: metrics[name] for key, name in names.items()}
    identity = hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:32]
    tracker = Tracker(MAIN_ROOT)
    with tracker.of_generator(sha256(GENERATOR), run_name(), training_params(), identity, settings) as new:
        if new:
            tracker.artifacts(NEIGHBOURS)
            tracker.metrics({key: value for key, value in metrics.items() if isinstance(value, float)})


def record_runtime(stage: str, values: dict[str, Any]) -> None:
    """Notes what differs between two identical runs, in the git-ignored reports/runtime.json."""
    path = MAIN_ROOT / REPORTS / "runtime.json"
    with filelock.FileLock(MAIN_ROOT / "mlflow.lock"):  # experiments can run side by side
        try:
            recorded = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            recorded = {}
        write_json(path, recorded | {stage: values})
