"""Settings that cannot change an out, and are therefore environment variables instead of parameters."""

from __future__ import annotations

import math
import os

from dcgan.system.errors import UserError


def from_environment(name: str, default: float, least: float = 0) -> float:
    """The number in the environment variable `name`, or `default` if it is unset or empty.

    Raises:
        UserError: the value is not a finite number of at least `least`.
    """
    text = os.environ.get(name, "")
    try:
        value = float(text or default)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise UserError(f"{name}: {text!r} is not allowed; give a number of at least {least:g}, or unset it.")
    return value
