"""Progress of long work: a bar on a terminal; elsewhere a line about every 20 seconds. Warnings leave the bar whole."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 20.0
_WIDE = 120  # columns that tqdm's own format needs beside the losses
_NARROW = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining} left{postfix}"
_BESIDE = 44  # columns of that format without the note, with a bar of six


def progress(
    items: Iterable[T], total: int, what: str, unit: str, done: int = 0, note: Callable[[], str] = str
) -> Iterator[T]:
    """Yields `items` and shows how many of them are done.

    Args:
        total: number of all items, including those done before.
        what: name of the work.
        unit: name of the items, in the plural.
        done: number of items that were done before.
        note: returns text to show after the numbers.
    """
    if sys.stderr.isatty():
        form = None if _columns() >= _WIDE else _NARROW
        with tqdm(
            items, desc=what, total=total, initial=done, unit=f" {unit}", dynamic_ncols=True, bar_format=form
        ) as bar:
            for item in bar:
                yield item
                bar.set_postfix_str(_fitting(note(), _columns()), refresh=False)
        return
    start = last = time.monotonic()
    for n, item in enumerate(items, start=done + 1):
        yield item
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES or n == total:
            last = now
            rate = (n - done) / max(now - start, 1e-9)
            say(f"{what}: {n} of {total} {unit}, {rate:.1f}/s, {now - start:.0f} s {note()}".rstrip())


@contextmanager
def transfer(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows the progress of a download, with rate and time left; yields a function to call with the bytes so far.

    Args:
        what: name of the file.
        total: size of the whole file in bytes.
    """
    if sys.stderr.isatty():
        with tqdm(desc=what, total=total, unit="B", unit_scale=True, dynamic_ncols=True) as bar:

            def advance(done: int) -> None:
                if bar.n == 0:
                    bar.initial = done  # bytes fetched earlier do not count in the rate
                bar.update(done - bar.n)

            yield advance
        return
    first, start = 0, 0.0
    last = time.monotonic()

    def note(done: int) -> None:
        nonlocal first, start, last
        now = time.monotonic()
        if not start:
            first, start = done, now
        if now - last > SECONDS_BETWEEN_LINES or done == total:
            last = now
            rate = max(done - first, 1) / max(now - start, 1e-9)
            left = f"{rate / 1e6:.1f} MB/s, {(total - done) / rate:.0f} s left" if done < total else "done"
            say(f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {left}")

    yield note


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _fitting(note: str, columns: int) -> str:
    """As many of the note's names with their values as fit beside a bar, the first ones."""
    while columns < _WIDE and len(note) > columns - _BESIDE:
        shorter = re.sub(r" ?\S+ \S+( / \S+)?$", "", note)
        if shorter == note:
            return ""
        note = shorter
    return note


def log_above_the_bar(*filters: logging.Filter) -> None:
    """Lets warnings, those of Python too, be written on stderr above the bar, also if another process draws that."""
    handler = _AboveTheBar()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    for each in filters:
        handler.addFilter(each)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)


class _AboveTheBar(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        say(clear + self.format(record))


def say(line: str) -> None:
    """Prints a line on stderr, above the bar if there is one."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
