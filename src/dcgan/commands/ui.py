"""`dcgan ui`: MLflow's UI on the runs of this project, those with the smallest distance first."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from dcgan.commands.common import HOST, add_command, check_port, project_root
from dcgan.metrics.names import FRECHET_DISTANCE, distance_name
from dcgan.system.errors import UserError
from dcgan.system.project_files import METRICS
from dcgan.tracking.metric_groups import grouped

_VIEW = "dcgan"  # name of the view of the runs that the link opens
_COLUMNS = ("loss", "lr", "seed")  # beside the distance; more would not fit a screen with the assistant open
_SERVER = {
    # Otherwise the address is followed by dozens of lines, one for each request.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
    # Jobs judge language models; eight processes and a gigabyte wait for them.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


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
    check_port(options.port, "ui", 5001)
    from dcgan.tracking import connection

    # It creates the database under a lock: MLflow's server and a stage could disturb each other.
    client, experiment = connection.connect(root)
    client.set_experiment_tag(experiment, *view(_distance(root)))
    print("The runs of this project, the smallest and best distance first (Ctrl-C ends the server):", flush=True)
    print(link(options.port, experiment), flush=True)
    store = connection.address(root)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--registry-store-uri", store]
    command += ["--host", HOST, "--port", str(options.port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    os.execve(sys.executable, command, os.environ | _SERVER)


def _distance(root: Path) -> str:
    """Returns the name of the distance that was measured last."""
    try:
        return distance_name(json.loads((root / METRICS).read_text()))
    except (OSError, ValueError):
        return FRECHET_DISTANCE
