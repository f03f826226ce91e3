"""Handling of SIGINT and SIGTERM: they end a stage with the status of the signal, at once or after it has saved."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

SIGNAL = "signal"  # file by which a stage passes a signal on to its ranks
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def exit_on_signals() -> None:
    """Makes SIGINT end the process with status 130 and SIGTERM with 143, so that DVC never treats it as finished."""
    for number in _NUMBERS:
        signal.signal(number, _exit)


def stop_signal() -> Callable[[], int | None]:
    """Stops SIGINT and SIGTERM from ending the process; the returned function gives the first one received, or None."""
    received: list[int] = []
    for number in _NUMBERS:
        signal.signal(number, lambda number, frame: received.append(number))
    return lambda: received[0] if received else None


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def relay_signals(file: Path) -> None:
    """Makes this process, a rank, receive the signal whose number its stage writes to `file`, which is empty before."""

    def watch() -> None:
        with suppress(FileNotFoundError):  # the stage has ended
            while not (number := file.read_bytes()):  # opened each time, since NFS asks the server then
                time.sleep(0.5)
            os.kill(os.getpid(), int(number))

    threading.Thread(target=watch, daemon=True).start()
