"""The process that tells MLflow what a stage leaves in the spool: `python -m dcgan.tracking.sender ROOT`.

It works until its standard input ends, then sends what there is and ends too. What it cannot send it leaves.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

from dcgan.tracking.events import Run, spool_of
from dcgan.tracking.private import hidden
from dcgan.tracking.spool import Spool
from dcgan.tracking.store import Store

logger = logging.getLogger(__name__)
_INTERVAL = 5.0  # seconds between two looks into the spool; the UI looks more seldom
_RETRY = 10.0  # seconds, after a failure
_LOAD_INTERVAL = 10.0  # seconds between two samples of the machine's load
_NICENESS = 5  # beside a training, which goes first; other stages only wait for it


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--load-of", type=json.loads)
    options = parser.parse_args()
    if options.load_of:
        os.nice(_NICENESS)
    spool, ended = spool_of(options.root), threading.Event()
    run = Run(spool, options.load_of) if options.load_of else None
    threading.Thread(target=_wait_for_end, args=(ended, run), daemon=True).start()
    if run:
        threading.Thread(target=_sample_load, args=(run, ended), daemon=True).start()
    send_until(ended, spool, options.root)


def _wait_for_end(ended: threading.Event, run: Run | None) -> None:
    sys.stdin.read()
    if run:
        run.died()  # if it has said nothing itself
    ended.set()


def send_until(ended: threading.Event, spool: Spool, root: Path) -> bool:
    """Sends what comes into the spool until `ended` is set, and once more; one warning says that it does not work.

    Returns:
        Whether all was sent.
    """
    store: Store | None = None
    warned, wait = False, _INTERVAL
    while True:
        last = ended.is_set()
        try:
            if spool.path.exists() and spool.path.stat().st_size:
                store = store or Store(root)
                spool.drain(partial(store.send, spool=spool), store.forget)
            wait = _INTERVAL
            sent = True
        except Exception as error:  # whatever it is, the training is worth more
            store, wait, sent = None, _RETRY, False
            if not warned:
                reason = hidden(str(error).splitlines()[0][:300]) if str(error) else type(error).__name__
                logger.warning(
                    "Cannot reach MLflow; continuing without it: %s. What is not logged yet is kept in %s and logged "
                    "by the next stage, or by `python -m dcgan sync`.",
                    reason,
                    spool.path,
                )
            warned = True
        if last:
            return sent
        ended.wait(wait)


def _sample_load(run: Run, ended: threading.Event) -> None:
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
        run.points([(int(time.monotonic() - start), {f"system/{name}": value for name, value in values.items()})])


if __name__ == "__main__":
    main()
