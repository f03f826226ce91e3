"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 20.0


def progress(
    items: Iterable[T], total: int, what: str, unit: str, done: int = 0, note: Callable[[], str] = str
) -> Iterator[T]:
    """Passes `items` through and shows how far they are, and what `note` says.

    Args:
        done: of the `total`, how many were done before.
    """
    if sys.stderr.isatty():
        with tqdm(items, desc=what, total=total, initial=done, unit=unit, dynamic_ncols=True) as bar:
            for item in bar:
                yield item
                bar.set_postfix_str(note(), refresh=False)
        return
    start = last = time.monotonic()
    for n, item in enumerate(items, start=done + 1):
        yield item
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES or n == total:
            last = now
            rate = (n - done) / max(now - start, 1e-9)
            print(
                f"{what}: {n} of {total} {unit}, {rate:.1f}/s, {now - start:.0f} s {note()}".rstrip(),
                file=sys.stderr,
                flush=True,
            )
