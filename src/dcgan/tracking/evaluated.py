"""Where an evaluation is in MLflow and the best that was measured alike, kept in a file beside the run folders.

The sender writes it while it is connected, so that others can say it without MLflow, which takes seconds to import.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcgan.metrics.names import distance_name
from dcgan.system.files import write_json
from dcgan.tracking.measured import CODE, SEED, Measured, of_experiment
from dcgan.tracking.metric_groups import plain_names
from dcgan.tracking.private import without_login
from dcgan.tracking.run_folder import EVALUATION, Description

_FILE = "evaluated.json"
_MOST = 3  # settings that are listed


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
    best_settings: dict[str, str]  # those of its settings, the seed too, that differ from this run's

    def best_run(self) -> str:
        """The run with the smallest distance, the settings that tell it apart, and how many were compared."""
        alike = f"of {self.alike} {'run' if self.alike == 1 else 'runs'} measured alike"
        if self.best_id == self.run_id:
            return f"this run, {alike}"
        settings = [f"{key} {value or 'empty'}" for key, value in self.best_settings.items()]
        more = [f"{len(settings) - _MOST} more"] if len(settings) > _MOST else []
        differing = f" ({', '.join([*settings[:_MOST], *more])})" if settings else ""
        return f"{self.best:g}, {self.best_name}{differing}, {alike}"

    def address(self) -> str:
        """Where the run is in MLflow's UI, and how to start it if no server is named in MLFLOW_TRACKING_URI."""
        server = os.environ.get("MLFLOW_TRACKING_URI", "")
        run = f"/#/experiments/{self.experiment}/runs/{self.run_id}"
        if server.startswith("http"):
            return without_login(server).rstrip("/") + run
        return f"`make ui`, then http://127.0.0.1:5000{run}"


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
    runs = [each for each in of_experiment(client, experiment) if each.protocol]
    own = next((each for each in runs if run.info.run_id in each.aliases), None)
    metric = distance_name(plain_names(run.data.metrics))
    alike = [each for each in runs if own and each.protocol == own.protocol and metric in each.metrics]
    if own and alike:
        best = min(alike, key=lambda each: each.metrics[metric])
        found = Evaluated(
            evaluation=about.identity[EVALUATION],
            experiment=experiment,
            run_id=run.info.run_id,
            name=run.info.run_name,
            alike=len(alike),
            best=best.metrics[metric],
            best_name=best.name,
            best_id=best.aliases[0],
            best_settings=_differing(best, own),
        )
        write_json(spool / _FILE, asdict(found))


def _differing(best: Measured, own: Measured) -> dict[str, str]:
    theirs, ours = ({**run.settings, SEED: run.seed} for run in (best, own))
    return {key: theirs.get(key, "") for key in sorted({*theirs, *ours} - {CODE}) if theirs.get(key) != ours.get(key)}


def read(spool: Path, evaluation: str) -> Evaluated | None:
    """What is kept of an evaluation; None if it is not known to be in MLflow."""
    try:
        kept = Evaluated(**json.loads((spool / _FILE).read_bytes()))
    except (OSError, ValueError, TypeError):  # nothing was uploaded yet, or by another version
        return None
    return kept if kept.evaluation == evaluation else None
