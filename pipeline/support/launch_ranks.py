"""Runs a stage as several ranks, on this machine or as the command in DCGAN_LAUNCHER starts them."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dcgan.system.errors import Interrupted, UserError
from pipeline.support import rank_checks, rank_file, rank_processes
from pipeline.support.dvc_files import ROOT
from pipeline.support.inputs import RANK_FILE, RANK_OF, STAGE, TAKEN
from pipeline.support.rank_processes import LAUNCHER
from pipeline.support.signals import SIGNAL, relay_signals, stop_signal

logger = logging.getLogger(__name__)
MAX_RESTARTS = 3  # after a rank has died, all ranks restart from the newest checkpoint


def launch(count: int | None) -> bool:
    """Runs this stage as ranks, unless this process is a rank itself or works alone; then it returns False.

    Args:
        count: the number of ranks; None if the launcher decides it, since the outs do not depend on it.

    Raises:
        UserError: a rank ended with a UserError, and the message is the same; or the ranks cannot be started.
        Interrupted: SIGINT or SIGTERM was received; the ranks had time to save.
    """
    if RANK_FILE:
        rank_checks.check_rank(RANK_FILE, count)
        relay_signals(RANK_FILE.with_name(SIGNAL))
    if RANK_FILE or not (os.environ.get(LAUNCHER) or (count or 1) > 1):
        return False
    stop = stop_signal()
    parent = ROOT / ".dvc" / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(MAX_RESTARTS + 1):
        with tempfile.TemporaryDirectory(prefix="ranks-", dir=parent) as folder:
            status = _attempt(Path(folder) / "stage.json", count, stop)
        if status == 0:
            return True
        if attempt < MAX_RESTARTS:
            logger.warning("a rank ended with status %d; restarting all ranks", status)
    sys.exit(
        f"pipeline.{STAGE}: gave up after {MAX_RESTARTS} restarts; the last process to fail ended with status "
        f"{status}; see above for its error, and run the command again."
    )


def _attempt(file: Path, count: int | None, stop: Callable[[], int | None]) -> int:
    """Starts the ranks and waits for them; returns the status of the one that failed, or 0."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    assert TAKEN
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    rank_file.write(file, TAKEN, store.port)
    signalled = file.with_name(SIGNAL)
    signalled.touch()
    processes = rank_processes.start(["-m", f"pipeline.{STAGE}", RANK_OF, str(file)], count)
    status = rank_processes.wait(processes, stop, signalled)
    left = {path.name: path for path in file.parent.iterdir()}
    if status == 0 and "finished" in left:
        return 0
    errors = sorted(name for name in left if name.startswith("error-"))
    failure = json.loads(left[errors[0]].read_bytes()) if errors else {}
    if signal := stop() or failure.get("signal"):
        raise Interrupted(signal)
    if failure:
        raise UserError(failure["message"])
    if "started" not in left and (command := os.environ.get(LAUNCHER)):
        raise UserError(f"{LAUNCHER}: `{command}` ended with status {status} before a rank had started; correct it.")
    return status
