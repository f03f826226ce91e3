"""The process that makes MLflow hold what the folders of runs say: `python -m dcgan.tracking.sender ROOT`.

A stage starts one with `sending`. It works until its standard input ends, then sends what there is and ends too. One
at a time sends for a project and a store; others wait for it. What it cannot send stays in its folder.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

import dcgan
from dcgan.system.python_path import python_path
from dcgan.tracking.private import hidden
from dcgan.tracking.run_folder import LOAD, SPOOL, append, line, over, remove, spool_of, waiting

if TYPE_CHECKING:
    from dcgan.tracking.store import Store

logger = logging.getLogger(__name__)
_INTERVAL = 5.0  # seconds between two uploads of runs that go on; the UI looks more seldom
_LOOK = 0.2  # seconds between two looks for one that has ended
_RETRY = 10.0  # seconds, after a failure
_LAST_SECONDS = 60  # that a stage waits at its end until all is sent
_CLOSE_SECONDS = 1  # in which the system closes what a killed process had open
_LOAD_INTERVAL = 10.0  # seconds between two samples of the machine's load
_NICENESS = 5  # beside a training, which goes first; other stages only wait for it


@contextlib.contextmanager
def sending(root: Path, load_of: Path | None = None) -> Iterator[None]:
    """Starts a sender for the project at `root`, and waits in the end until all is sent that the block wrote.

    Args:
        load_of: the folder of a run that is given the machine's load meanwhile.
    """
    if os.environ.get("DCGAN_TRACKING") == "0":
        yield
        return
    # -P: no file of the folder that it is started in, where a relative address of a store counts, hides a module.
    command = [sys.executable, "-P", "-m", "dcgan.tracking.sender", str(root.resolve())]
    command += ["--load-of", str(load_of)] if load_of else []
    # The code that the stage runs, whatever is installed.
    environment = os.environ | {"PYTHONPATH": python_path(Path(str(dcgan.__file__)).parents[1])}
    # Its own session: a Ctrl-C is the stage's, which says in the end how the run ended.
    try:
        sender = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root, env=environment, start_new_session=True)
    except OSError as error:
        logger.warning("Cannot start the process that logs to MLflow: %s; it is logged later", error)
        yield
        return
    try:
        yield
    finally:
        assert sender.stdin
        sender.stdin.close()  # by which it knows that nothing more will come, whatever ended the stage
        try:
            sender.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            sender.kill()
            logger.warning("MLflow is slow; what is not logged yet is kept in %s and logged later", root / SPOOL)


def send(root: Path, ended: threading.Event | None = None) -> bool:
    """Sends what the folders of runs say until `ended` is set, and once more; one warning says that it does not work.

    Args:
        ended: without it all is sent once.

    Returns:
        Whether all is sent that is there.
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
            with turn:
                _send_all(root, spool, ended)
            return True
        except filelock.Timeout:  # another sends, these runs too
            if last and not any(map(over, waiting(spool))):
                return True
            time.sleep(_LOOK)
        except Exception as error:  # whatever it is, the training is worth more
            if not warned:
                reason = hidden(str(error).splitlines()[0][:300]) if str(error) else type(error).__name__
                logger.warning(
                    "Cannot reach MLflow; continuing without it: %s. What is not logged yet is kept in %s and logged "
                    "by the next stage, or by `python -m dcgan sync`.",
                    reason,
                    spool,
                )
            warned = True
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
                    remove(folder)
        if due:
            uploaded = time.monotonic()
        if last:
            return
        ended.wait(_LOOK)


def _store(root: Path) -> Store:
    from dcgan.tracking.store import Store  # here, since it takes seconds, and a sender may have nothing to send

    return Store(root)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
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
    gc.freeze()  # or the interpreter's last collection looks at all that MLflow has loaded


def _wait_for_end(ended: threading.Event, run: Path | None) -> None:
    sys.stdin.read()
    if run and run.exists():
        over(run, _CLOSE_SECONDS)  # of a stage that was killed, whose lock may be released a moment later
    ended.set()


def _sample_load(run: Path, ended: threading.Event) -> None:
    """The machine's load as MLflow's own monitors see it, under their names; by seconds since the process's start."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception:  # no GPU, or no driver for it
        logger.debug("no GPU to be monitored")
    start = time.monotonic()
    while not ended.wait(_LOAD_INTERVAL):
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        with contextlib.suppress(OSError):  # of a full disk; and of a run that is gone
            named = {f"system/{name}": value for name, value in values.items()}
            append(run / LOAD, [line(int(time.monotonic() - start), named)])


if __name__ == "__main__":
    main()
