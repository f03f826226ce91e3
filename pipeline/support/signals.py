"""SIGINT and SIGTERM: they end a stage with their own status, or wait until it has saved."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def exit_on_signals() -> None:
    """SIGINT ends the process with status 130, SIGTERM with 143, so that DVC never takes it for finished."""
    for number in _NUMBERS:
        signal.signal(number, _exit)


def stop_signal() -> Callable[[], int | None]:
    """From now on they do not end the process: the result says which of them was received."""
    received: list[int] = []
    for number in _NUMBERS:
        signal.signal(number, lambda number, frame: received.append(number))
    return lambda: received[0] if received else None


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
