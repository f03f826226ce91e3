"""The sender, a process that uploads run folders to MLflow: `python -m dcgan.tracking.sender ROOT`.

A stage starts a sender with `sending`. The sender works until its standard input ends, then uploads the rest and exits.
Only one sender at a time uploads for a project and a store; others wait for it. What it cannot upload stays in the run
folder.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

import dcgan
from dcgan.system.progress import log_above_the_bar
from dcgan.system.python_path import python_path
from dcgan.tracking.private import hidden
from dcgan.tracking.run_folder import (
    LOAD,
    SPOOL,
    append,
    describe,
    line,
    over,
    remove,
    spool_of,
    tracking_is_on,
    waiting,
)

if TYPE_CHECKING:
    from dcgan.tracking.store import Store

logger = logging.getLogger(__name__)
_INTERVAL = 5.0  # seconds between uploads of an unfinished run; the UI refreshes less often
_LOOK = 1.0  # seconds between checks for runs that have ended
_POLL = 0.2  # seconds between checks of a sender that only waits for another to upload its runs
_RETRY = 10.0  # seconds before the next attempt after a failure
_LAST_SECONDS = 60  # maximum time that a stage waits at its end for the upload
_CLOSE_SECONDS = 1  # time for the system to close the files of a killed process
_LOAD_INTERVAL = 10.0  # seconds between samples of the machine's load
_NICENESS = 5  # only beside a training, which has priority; other stages just wait for the sender


@contextlib.contextmanager
def sending(root: Path, load_of: Path | None = None) -> Iterator[None]:
    """Starts a sender for the project at `root`, and waits after the block until everything is uploaded.

    It waits for at most _LAST_SECONDS. With DCGAN_TRACKING=0 no sender is started.

    Args:
        root: the project's root.
        load_of: a run folder in which the sender records the machine's load meanwhile.
    """
    if not tracking_is_on():
        yield
        return
    # The sender runs in `root`, since a relative address of a store refers to it. -P: files there hide no modules.
    command = [sys.executable, "-P", "-m", "dcgan.tracking.sender", str(root.resolve())]
    command += ["--load-of", str(load_of)] if load_of else []
    # The sender uses the same code as the stage, even if another copy is installed.
    environment = os.environ | {"PYTHONPATH": python_path(Path(str(dcgan.__file__)).parents[1])}
    # In its own session, since Ctrl-C is for the stage, which reports at its end how the run ended.
    try:
        sender = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root, env=environment, start_new_session=True)
    except OSError as error:
        logger.warning("Cannot start the process that logs to MLflow: %s; the run is logged later", error)
        yield
        return
    try:
        yield
    finally:
        assert sender.stdin
        sender.stdin.close()  # tells the sender that the stage has ended, for whatever reason
        try:
            sender.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            sender.kill()
            logger.warning("MLflow is slow; data that is not logged yet is kept in %s and logged later", root / SPOOL)


def send(root: Path, ended: threading.Event | None = None) -> bool:
    """Uploads run folders repeatedly until `ended` is set, then once more; only the first failure logs a warning.

    Args:
        root: the project's root.
        ended: set when nothing more will be written; if it is None, everything is uploaded once.

    Returns:
        Whether everything is uploaded.
    """
    if ended is None:
        ended = threading.Event()
        ended.set()
    spool, warned = spool_of(root), False
    spool.mkdir(parents=True, exist_ok=True)
    turn = filelock.FileLock(spool / "sending.lock", timeout=0)
    while True:
        last = ended.is_set()
        try:
            turn.acquire()
        except filelock.Timeout:  # another sender is active and uploads these runs too
            if last and not any(map(over, waiting(spool))):
                return True
            if last:
                time.sleep(_POLL)
            else:
                ended.wait(_LOOK)
            continue
        try:
            _send_all(root, spool, ended)
            return True
        except Exception as error:  # no error of any kind may end the training
            if not warned:
                reason = hidden(str(error).splitlines()[0][:300]) if str(error) else type(error).__name__
                logger.warning(
                    "Cannot reach MLflow (%s); continuing without it. Data that is not logged yet is kept in %s "
                    "and logged by the next stage, or by `dcgan sync`.",
                    reason,
                    spool,
                )
            warned = True
        finally:
            turn.release()
        if last:
            return False
        ended.wait(_RETRY)


def _send_all(root: Path, spool: Path, ended: threading.Event) -> None:
    store: Store | None = None
    uploaded = -math.inf
    while True:
        last = ended.is_set()
        due = last or time.monotonic() - uploaded > _INTERVAL
        for folder in waiting(spool):
            if due or over(folder):
                store = store or _store(root)
                if store.upload(folder):
                    _keep_evaluated(store, spool, folder)
                    remove(folder)
        if due:
            uploaded = time.monotonic()
        if last:
            return
        ended.wait(_LOOK)


def _store(root: Path) -> Store:
    from dcgan.tracking.store import Store  # takes seconds to import, and a sender may have nothing to upload

    return Store(root)


def _keep_evaluated(store: Store, spool: Path, folder: Path) -> None:
    from dcgan.tracking import evaluated
    from dcgan.tracking.run import harmless

    with harmless("which run is the best"):
        evaluated.keep(spool, store.client, store.experiment, describe(folder))


def main() -> None:
    log_above_the_bar()
    warnings.simplefilter("ignore")  # of libraries, which tell a user nothing
    # Slurm sends signals to all processes of a step. They are for the stage, which reports how the run ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--load-of", type=Path)
    options = parser.parse_args()
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended, options.load_of), daemon=True).start()
    if options.load_of:
        os.nice(_NICENESS)
        threading.Thread(target=_sample_load, args=(options.load_of, ended), daemon=True).start()
    send(options.root, ended)
    gc.freeze()  # otherwise the last garbage collection scans all that MLflow has loaded


def _wait_for_end(ended: threading.Event, run: Path | None) -> None:
    sys.stdin.read()
    if run and run.exists():
        over(run, _CLOSE_SECONDS)  # the lock of a killed stage may be released a moment later
    ended.set()


def _sample_load(run: Path, ended: threading.Event) -> None:
    """Records the machine's load as `system/...` with MLflow's own monitors; the step is seconds since its start."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception:  # no GPU, or no driver for it
        logger.debug("no GPU to monitor")
    start = time.monotonic()
    while not ended.wait(_LOAD_INTERVAL):
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        with contextlib.suppress(OSError):  # the disk is full, or the run folder has been removed
            named = {f"system/{name}": value for name, value in values.items()}
            append(run / LOAD, [line(int(time.monotonic() - start), named)])


if __name__ == "__main__":
    main()
