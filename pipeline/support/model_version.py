"""What MLflow's registry is told of an evaluated generator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import distance_name
from dcgan.system.files import sha256
from dcgan.tracking.run_folder import texts
from pipeline.support.run_identity import data_params, training_params
from pipeline.support.stage import FOLDER, INVENTORY, REPORTS


def model_version(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Under which name the generator is registered, with what distance, by what protocol, and its card."""
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
    """All that two distances must have in common to be compared."""
    data = data_params()
    if data["dataset"] == "folder":
        data[str(FOLDER)] = sha256(INVENTORY)
    return texts(data | {name: metrics[name] for name in ("network", "weights_sha256", "samples", "reference_split")})
