"""Reads the metadata in this project's weight files. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dcgan.system.errors import UserError


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `networks.save` wrote next to the weights: the network's settings and other values.

    Raises:
        UserError: the file is not a network that this project saved.
    """
    try:
        with safe_open(path, "np") as file:
            metadata: dict[str, Any] = json.loads(file.metadata()["dcgan"])
            return metadata
    except Exception as error:
        raise UserError(
            f"{path}: it does not hold a network that this project saved ({type(error).__name__})."
        ) from None
