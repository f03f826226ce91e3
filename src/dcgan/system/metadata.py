"""What stands beside the weights in a file of this project. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dcgan.system.errors import UserError


def read_metadata(path: Path) -> dict[str, Any]:
    """What `networks.save` wrote beside the weights: settings, and more.

    Raises:
        UserError: the file is not one of this project's.
    """
    try:
        with safe_open(path, "np") as file:
            metadata: dict[str, Any] = json.loads(file.metadata()["dcgan"])
            return metadata
    except Exception as error:
        raise UserError(f"{path}: it is not a network that this project saved ({type(error).__name__}).") from None
