"""The entry of an evaluated generator in MLflow's model registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import distance_name
from dcgan.system.files import sha256
from dcgan.system.project_files import FOLDER, INVENTORY, REPORTS
from dcgan.tracking.run_folder import texts
from pipeline.support.run_identity import data_params, training_params


def model_version(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `registry.register`: model name, metric, distance, protocol and model card of the generator."""
    from dcgan.report import card

    params = training_params()
    metric = distance_name(metrics)
    return {
        "name": f"dcgan-{params['dataset']}",
        "metric": metric,
        "distance": metrics[metric],
        "protocol": _protocol(metrics),
        "card": card.render(metrics, json.loads((REPORTS / "data.json").read_text()), params),
    }


def _protocol(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The values that two distances must have in common to be comparable."""
    data = data_params()
    if data["dataset"] == "folder":
        data[str(FOLDER)] = sha256(INVENTORY)
    return texts(data | {name: metrics[name] for name in ("network", "weights_sha256", "samples", "reference_split")})
