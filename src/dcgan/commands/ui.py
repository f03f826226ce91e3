"""`dcgan ui`: MLflow's UI on the runs of this project, those with the smallest distance first."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from dcgan.commands.common import add_command, project_root
from dcgan.metrics.names import FRECHET_DISTANCE, distance_name
from dcgan.system.errors import UserError
from dcgan.system.project_files import METRICS
from dcgan.tracking.metric_groups import grouped

HOST = "127.0.0.1"
_VIEW = "dcgan"  # name of the view of the runs that the link opens
_COLUMNS = ("lr", "loss", "batch_size", "epochs", "seed")  # parameters that the view shows beside the distance


def add(commands: Any) -> None:
    ui = add_command(
        commands,
        "ui",
        _run,
        f"browse the runs of this project in MLflow's UI on {HOST}",
        "dcgan ui --port 5001",
    )
    ui.add_argument("--port", type=int, default=5000, metavar="N", help="port of the server; default: 5000")


def view(distance: str) -> tuple[str, str]:
    """Returns name and value of the experiment's tag that keeps the view, as the UI's button "Share" writes it."""
    columns = [f"metrics.`{grouped(distance)}`", *(f"params.`{name}`" for name in _COLUMNS)]
    sorted_by = {"orderByKey": columns[0], "orderByAsc": True}
    return f"mlflow.sharedViewState.{_VIEW}", json.dumps({**sorted_by, "selectedColumns": columns})


def link(port: int, experiment: str) -> str:
    """Returns the address of the view of an experiment's runs."""
    return f"http://{HOST}:{port}/#/experiments/{experiment}/runs?viewStateShareKey={_VIEW}"


def _run(options: argparse.Namespace) -> None:
    root = project_root()
    if os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError("MLFLOW_TRACKING_URI: is set, and the runs are in the store that it names: browse them there.")
    _check_port(options.port)
    from dcgan.tracking import connection

    # It creates the database under a lock: MLflow's server and a stage could disturb each other.
    client, experiment = connection.connect(root)
    client.set_experiment_tag(experiment, *view(_distance(root)))
    print(f"The runs of this project: {link(options.port, experiment)} (Ctrl-C ends the server)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", connection.address(root)]
    os.execv(sys.executable, [*command, "--host", HOST, "--port", str(options.port), "--workers", "1"])


def _check_port(port: int) -> None:
    """Raises UserError if the port cannot be listened on, before MLflow's import, which takes seconds."""
    try:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((HOST, port))
    except (OSError, OverflowError):
        other = port + 1 if 1024 <= port < 65_535 else 5001
        raise UserError(
            f"port {port}: it is in use, or not allowed; give another, for example `make ui PORT={other}` or "
            f"`dcgan ui --port {other}`."
        ) from None


def _distance(root: Path) -> str:
    """Returns the name of the distance that was measured last."""
    try:
        return distance_name(json.loads((root / METRICS).read_text()))
    except (OSError, ValueError):
        return FRECHET_DISTANCE
