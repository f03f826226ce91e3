"""Leaves out of a warning what it advises and params.yaml already has. The training itself knows no other settings."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dcgan.schema import Params

_OF = "dcgan.training.diversity"
_TRY = "; try "  # what follows is advice


class Advice(logging.Filter):
    """Words the advice of a warning anew.

    Args:
        params: returns all parameters.
    """

    def __init__(self, params: Callable[[], Params]) -> None:
        super().__init__()
        self._params = params

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == _OF and _TRY in str(record.msg):
            record.msg = str(record.msg).partition(_TRY)[0] + _TRY + advice(self._params())
        return True


def advice(params: Params) -> str:
    """What to try against a generator that collapses, as far as it is not set already."""
    ideas = {
        "loss: relativistic with r1_gamma above 0": params.loss == "relativistic" and params.r1_gamma > 0,
        "augment: true": params.augment,
        "a lower lr": False,
    }
    *others, last = (idea for idea, is_set in ideas.items() if not is_set)
    return f"{', '.join(others)}, or {last}" if others else last
