"""Settings that cannot change an out: environment variables, not parameters."""

from __future__ import annotations

import math
import os

from dcgan.system.errors import UserError


def from_environment(name: str, default: float, least: float = 0) -> float:
    """A number that cannot change an out, from the environment."""
    text = os.environ.get(name, "")
    try:
        value = float(text or default)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise UserError(f"{name}: {text!r} is not allowed; give a number from {least:g} on, or unset it.")
    return value
