"""Connects to the tracking store: its address, its database, and the experiment that the runs belong to."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import filelock
import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy import URL, make_url

from dcgan.system.errors import UserError

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

EXPERIMENT = "dcgan"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # marks an experiment for training, not for generative AI

_SECONDS = 120  # to wait for another process that creates the store, which takes seconds


def connect(root: Path) -> tuple[mlflow.MlflowClient, str]:
    """Connects to the store; returns a client and the id of the experiment, which is created if it does not exist.

    Args:
        root: root of the main project. The default store is its SQLite file `mlflow.db`, with artifacts in
            `mlartifacts/`; MLFLOW_TRACKING_URI selects another store.

    Raises:
        UserError: another process has been creating the store for minutes.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    uri = address(root)
    mlflow.set_tracking_uri(uri)
    if named:  # MLflow has set it to `uri`
        os.environ["MLFLOW_TRACKING_URI"] = named
    else:  # the next caller would take it for the user's choice
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    # Two processes that create the database at the same time could leave it half migrated.
    lock = (database_of(uri) or root / "mlflow").with_suffix(".lock")
    try:
        with filelock.FileLock(lock, timeout=_SECONDS):
            return _experiment(uri)
    except filelock.Timeout:
        raise UserError(f"{lock}: another process is creating the store; run the command again later.") from None


def _experiment(uri: str) -> tuple[mlflow.MlflowClient, str]:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment:
        return client, experiment.experiment_id
    database = database_of(uri)
    location = database.with_name("mlartifacts").as_uri() if database else None  # else where the server puts them
    try:
        return client, client.create_experiment(EXPERIMENT, location, _KIND)
    except MlflowException:  # another machine created it first
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        return client, experiment.experiment_id


def address(root: Path) -> str:
    """The address of the store in MLFLOW_TRACKING_URI, by default the project's own SQLite file.

    A relative SQLite address counts from `root`, wherever the command was typed.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named and not database_of(named):
        return named
    file = root.resolve() / ((named and database_of(named)) or "mlflow.db")
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def database_of(uri: str) -> Path | None:
    """The file of a SQLite address; None for any other store."""
    url = make_url(uri) if uri.startswith("sqlite:") else None
    return Path(url.database) if url and url.database else None


def own_files(root: Path) -> Path:
    """Where the project's own store keeps the files of its runs."""
    return root.resolve() / "mlartifacts"
