"""How the wall-clock time of a loop is spent."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs from its making; times what is named."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Counts the block as time spent on `what`."""
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
