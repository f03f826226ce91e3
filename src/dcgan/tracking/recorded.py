"""What is recorded of a generator: its parameters, its metrics and its data, each only if it is this generator's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dcgan.metrics.names import COUNTS, FID, FRECHET_DISTANCE, SCORES
from dcgan.system.project_files import GENERATOR, METRICS, REPORTS
from dcgan.tracking.metric_groups import current, plain_names
from dcgan.tracking.run_folder import PROTOCOL

if TYPE_CHECKING:  # it takes seconds
    from mlflow.entities import Run

_DATA = REPORTS / "data.json"
# Beginnings of the names of an evaluation's results, which a run holds beside losses and speeds.
_RESULTS = (FID, FRECHET_DISTANCE, "kid", "kernel_distance", *SCORES, "copies")


@dataclass(frozen=True)
class Recorded:
    """What is known; empty where it is not.

    Args:
        params: the parameters, as in params.yaml.
        metrics: contents of a metrics.json.
        data: the data card, contents of a data.json.
        left_out: a sentence for each of these that is not known.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def in_lock(root: Path, generator: Path) -> Recorded:
    """What dvc.lock records of a generator's file, which may be a copy elsewhere.

    The hashes in dvc.lock decide, since a file in reports/ can belong to another generator than the one that lies
    beside it, as after `git checkout` or while a training is followed by no evaluation.
    """
    lock = root / "dvc.lock"
    stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}) if lock.is_file() else {}
    mine = _md5(generator)
    if _listed(stages, "train", "outs", GENERATOR) != mine:
        said = f"{generator}: dvc.lock does not list it, so that its parameters, metrics and data are not known"
        return Recorded(left_out=(f"{said}; they are left out.",))
    left_out = []
    metrics: dict[str, Any] = {}
    measured = _listed(stages, "evaluate", "deps", GENERATOR) == mine
    if measured and _listed(stages, "evaluate", "outs", METRICS) == _md5(root / METRICS):
        metrics = json.loads((root / METRICS).read_text())
    else:
        left_out.append(
            f"{METRICS}: it does not belong to this generator, or was edited, and is left out; `dvc repro evaluate` "
            "measures the generator."
        )
    data: dict[str, Any] = {}
    if _listed(stages, "crop", "outs", _DATA) == _md5(root / _DATA):
        data = json.loads((root / _DATA).read_text())
    else:
        left_out.append(f"{_DATA}: it is missing or not that of dvc.lock, and is left out; `dvc checkout` restores it.")
    entries = [stages[name].get("params", {}).get("params.yaml", {}) for name in reversed(stages)]
    entries.append(stages["train"].get("params", {}).get("params.yaml", {}))
    known = {key: _number(value) for entry in entries for key, value in entry.items()}
    order = [*yaml.safe_load((root / "params.yaml").read_text())]
    params = {
        key: known[key] for key in sorted(known, key=lambda key: order.index(key) if key in order else len(order))
    }
    return Recorded(params, metrics, data, tuple(left_out))


def in_run(run: Run, data: Mapping[str, Any]) -> Recorded:
    """What an MLflow run records of its generator.

    Args:
        data: the data card of this project; it is the run's if that trained on data of the same name.
    """
    params = {name: _value(text) for name, text in run.data.params.items()}
    measured = plain_names(run.data.metrics)
    results = {name: value for name, value in measured.items() if name.startswith(_RESULTS)}
    protocol = {name: _value(text) for name, text in current(json.loads(run.data.tags.get(PROTOCOL, "{}"))).items()}
    counts = {name: int(measured[name]) for name in COUNTS if name in measured}
    if not protocol or not results:
        return Recorded(params, left_out=(f"{run.info.run_name}: this run has no evaluation; metrics are left out.",))
    same = data.get("source", {}).get("name") == protocol.get("data_source")
    why = () if same else ("The data of this generator are not those in data/raw; their card is left out.",)
    return Recorded(params, results | protocol | counts, data if same else {}, why)


def _listed(stages: Mapping[str, Any], stage: str, side: str, path: Path) -> str:
    files = stages.get(stage, {}).get(side, [])
    return next((str(file["md5"]) for file in files if file["path"] == path.as_posix()), "not listed")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def _value(text: str) -> Any:
    """The value of a text in MLflow."""
    return _number(yaml.safe_load(text))


def _number(value: Any) -> Any:
    """A value of YAML; numbers such as 1e-05, which YAML 1.1 reads as text, are numbers."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
