"""Worker processes that end when the stage that started them ends, even if it is killed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkContext, ForkProcess, SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess

from dcgan.system.errors import UserError
from dcgan.system.processor import cores

_FORKS = sys.platform == "linux"  # macOS's own libraries may crash in a fork


@contextmanager
def worker_pool(workers: int | None) -> Iterator[Executor]:
    """A pool of worker processes, by default one per core; if the block raises, pending tasks are cancelled.

    Raises:
        UserError: a worker process was killed.
    """
    with _ended(ProcessPoolExecutor(workers or cores(), _SpawnContext(), _begin)) as pool:
        yield pool


@contextmanager
def sharing_pool(workers: int | None, begin: Callable[[], object]) -> Iterator[Executor]:
    """Like `worker_pool`, with workers that share what this process has loaded; each calls `begin` first.

    On Linux they are forks of this process, which start in milliseconds; torch must be set to one thread before, since
    a fork has no other. Elsewhere they are threads.
    """
    number = workers or cores()
    if _FORKS:
        pool: Executor = ProcessPoolExecutor(number, _ForkContext(), partial(_begin_fork, begin))
    else:
        pool = ThreadPoolExecutor(number, initializer=begin)
    with _ended(pool):
        yield pool


@contextmanager
def _ended(pool: Executor) -> Iterator[Executor]:
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(cancel_futures=True)
        if not isinstance(error, BrokenProcessPool):
            raise
        raise UserError(
            "worker process: it was killed, probably because too little memory is free; close other programs, then "
            "run the command again."
        ) from None
    pool.shutdown()


class _Process(BaseProcess):
    """A worker process that does not see Ctrl-C, which reaches the whole process group; only the stage handles it."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the process from its start
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _SpawnContext(SpawnContext):
    class Process(_Process, SpawnProcess):
        pass


class _ForkContext(ForkContext):
    class Process(_Process, ForkProcess):
        pass


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _begin_fork(begin: Callable[[], object]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the stage's handler would raise an exception in the worker
    gc.freeze()  # a collection would copy all memory
    _begin()
    begin()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
