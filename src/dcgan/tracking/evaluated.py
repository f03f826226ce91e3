"""Where an evaluation is in MLflow and the best that was measured alike, kept in a file beside the run folders.

The sender writes it while it is connected, so that others can say it without MLflow, which takes seconds to import.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcgan.metrics.names import distance_name
from dcgan.system.files import write_json
from dcgan.tracking import measured
from dcgan.tracking.run_folder import EVALUATION, Description

_FILE = "evaluated.json"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation in MLflow."""

    evaluation: str  # its identity, `run_folder.evaluation_id`
    experiment: str  # id of MLflow's experiment
    run_id: str
    name: str  # of the run
    alike: int  # number of runs that were measured in the same way, this one included
    best: float  # their smallest distance
    best_name: str  # name of the run that has it
    best_id: str


def keep(spool: Path, client: Any, experiment: str, about: Description) -> None:
    """Keeps where the evaluation of a run folder is, once it is uploaded; does nothing for a run without one.

    Args:
        client: an MlflowClient.
        experiment: id of the experiment that holds the run.
    """
    if EVALUATION not in about.identity:
        return
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in about.identity.items())
    run = next(iter(client.search_runs([experiment], query)), None)
    if run is None:
        return
    runs = [each for each in measured.of_experiment(client, experiment) if each.protocol]
    own = next((each for each in runs if run.info.run_id in each.aliases), None)
    metric = distance_name(run.data.metrics)
    alike = [each for each in runs if own and each.protocol == own.protocol and metric in each.metrics]
    if alike:
        best = min(alike, key=lambda each: each.metrics[metric])
        value, name, (best_id, *_) = best.metrics[metric], best.name, best.aliases
        found = (about.identity[EVALUATION], experiment, run.info.run_id, run.info.run_name, len(alike), value, name)
        write_json(spool / _FILE, asdict(Evaluated(*found, best_id)))


def read(spool: Path, evaluation: str) -> Evaluated | None:
    """What is kept of an evaluation; None if it is not known to be in MLflow."""
    try:
        kept = Evaluated(**json.loads((spool / _FILE).read_bytes()))
    except (OSError, ValueError, TypeError):  # nothing was uploaded yet, or by another version
        return None
    return kept if kept.evaluation == evaluation else None
