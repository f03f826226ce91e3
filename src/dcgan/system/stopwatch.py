"""How the wall-clock time of a loop is spent."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs from its making; times what is named.

    Args:
        before: waits until a GPU has done what it was told, so that a block's time does not count that.
    """

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before
        self._start = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, what: str, wait: bool = True) -> Iterator[None]:
        """Counts the block as time spent on `what`; without `wait` the GPU may go on meanwhile."""
        if wait:
            self._before()
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[what] += time.monotonic() - start

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def shares(self) -> dict[str, float]:
        """The share of all time, in [0, 1], of everything that was named, as `<what>_share`."""
        return {f"{what}_share": seconds / self.seconds() for what, seconds in self._seconds.items()}
