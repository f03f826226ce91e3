"""Watches a value while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sampled(measure: Callable[[], int]) -> Iterator[list[int]]:
    """Collects what `measure` returns, five times a second, in a thread."""
    samples: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            samples.append(measure())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
