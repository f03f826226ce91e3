"""Measures how a loop spends its wall-clock time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Measures the total time since its creation and the time spent in named blocks.

    Args:
        before: waits until the GPU has finished its queued work, so that a block's time does not count earlier work.
    """

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before
        self._start = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, what: str, wait: bool = True) -> Iterator[None]:
        """Adds the block's duration to `what`; without `wait`, the GPU may still run earlier work meanwhile."""
        if wait:
            self._before()
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[what] += time.monotonic() - start

    def seconds(self) -> float:
        """Seconds since the creation of this stopwatch."""
        return time.monotonic() - self._start

    def shares(self) -> dict[str, float]:
        """The share of the total time, in [0, 1], spent on each name, with keys `<what>_share`."""
        return {f"{what}_share": seconds / self.seconds() for what, seconds in self._seconds.items()}
