"""The settings of trainings by their fingerprints, as far as a run of theirs is known."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import ViewType

from dcgan.system.errors import UserError
from dcgan.tracking.connection import connect
from dcgan.tracking.reproduce import asking
from dcgan.tracking.run_folder import FINGERPRINT, SPOOL, describe


@dataclass(frozen=True)
class Training:
    """What the run of a training says."""

    params: Mapping[str, str]
    commit: str  # empty if the project had none


def known_trainings(root: Path, fingerprints: Collection[str]) -> tuple[dict[str, Training], str]:
    """The trainings that have a run in the spool or in MLflow, by fingerprint.

    Args:
        root: the project's root.

    Returns:
        The trainings, and a sentence if MLflow could not be asked; otherwise an empty one.
    """
    known = {}
    for file in (root / SPOOL).glob("*/[0-9]*/run.json"):
        about = describe(file.parent)
        known[about.identity.get(FINGERPRINT, "")] = Training(about.params, about.opened_with.get("git_commit", ""))
    if not fingerprints or not (os.environ.get("MLFLOW_TRACKING_URI") or (root / "mlflow.db").exists()):
        return known, ""
    try:
        with asking():
            client, experiment = connect(root)
            for fingerprint in fingerprints:
                query = f"tags.{FINGERPRINT} = '{fingerprint}'"
                for run in client.search_runs([experiment], query, ViewType.ALL):
                    known[fingerprint] = Training(run.data.params, run.data.tags.get("git_commit", ""))
    except UserError as error:
        return known, str(error)
    return known, ""
