"""Worker processes that end when the stage that started them ends, even if it is killed."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess

from dcgan.system.processor import cores


@contextmanager
def worker_pool(workers: int | None) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """A pool of worker processes, by default one per core; if the block raises, pending tasks are cancelled."""
    pool = concurrent.futures.ProcessPoolExecutor(workers or cores(), _Context(), initializer=_begin)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


class _Process(SpawnProcess):
    """A worker process that does not see Ctrl-C, which reaches the whole process group; only the stage handles it."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the process from its start
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(SpawnContext):
    Process = _Process


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
