"""Events that MLflow has not been told yet: one JSON-lines file, and beside it the files that its lines name."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from dcgan.system.files import atomic

Event = dict[str, Any]
_SECONDS = 5  # that somebody waits for another's append
_REMOVE_SECONDS = 5.0  # between two removals of what has been sent


class Spool:
    """What is to be told to one store by a project, all of whose processes share it.

    Args:
        folder: of this store; holds `unsent.jsonl` and `files/`. It is created by the first event.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "unsent.jsonl"
        self._files = folder / "files"
        self._lock = filelock.FileLock(folder / "unsent.lock", timeout=_SECONDS)
        self._sending = filelock.FileLock(folder / "sending.lock")
        self._sender, self._me = folder / "sender.txt", uuid.uuid4().hex

    def append(self, event: Mapping[str, Any], files: Mapping[str, Path | bytes] | None = None) -> None:
        """Adds an event; `files` (by the key under which the event names each) are kept as they are now.

        Raises:
            OSError: the disk is full, or closed to us.
        """
        self._files.mkdir(parents=True, exist_ok=True)
        with self._lock:
            kept = {key: self._keep(content) for key, content in (files or {}).items()}
            line = json.dumps({**event, **({"files": kept} if kept else {})}) + "\n"
            with self.path.open("ab") as file:
                if file.tell() and not self._ends():  # what a killed process, or a full disk, left of a line
                    file.write(b"\n")
                file.write(line.encode())

    def _ends(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _keep(self, content: Path | bytes) -> str:
        name = uuid.uuid4().hex + (content.suffix if isinstance(content, Path) else "")
        with atomic(self._files / name) as temporary:
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                shutil.copyfile(content, temporary)
        return name

    def file(self, name: str) -> Path:
        """A file that an event names."""
        return self._files / name

    def __len__(self) -> int:
        return len(self._events())

    def _events(self) -> list[Event]:
        """All events; what was left of a line that was not written to its end is none."""
        try:
            lines = self.path.read_text(errors="replace").split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [event for line in lines if (event := _parsed(line)) is not None]

    def drain(self, send: Callable[[Sequence[Event]], int], forget: Callable[[], None] = lambda: None) -> None:
        """Hands all events to `send` in their order, and removes those that it has sent.

        Args:
            send: takes the first events, and says how many of them it has dealt with: at least one.
            forget: is called before, unless this was the last to send something.

        Raises:
            whatever `send` raises; the events that it had not dealt with stay.
        """
        if not self.path.exists():
            return
        with self._sending:
            if not self._sender.exists() or self._sender.read_text() != self._me:
                forget()
                self._sender.write_text(self._me)
            events, sent, removed, since = self._events(), 0, 0, time.monotonic()
            try:
                while sent < len(events):
                    sent += send(events[sent:])
                    if time.monotonic() - since > _REMOVE_SECONDS:  # or a killed sender would begin anew
                        self._remove(sent - removed)
                        removed, since = sent, time.monotonic()
            finally:
                self._remove(sent - removed)

    def _remove(self, count: int) -> None:
        """Removes the first events, and files that no event names any more."""
        with self._lock:
            left = self._events()[count:]
            with atomic(self.path) as temporary:
                temporary.write_text("".join(json.dumps(event) + "\n" for event in left))
            named = {name for event in left for name in event.get("files", {}).values()}
            for path in self._files.iterdir():
                if path.name not in named:
                    path.unlink()


def _parsed(line: str) -> Event | None:
    try:
        event: Event = json.loads(line)
        return event
    except ValueError:
        return None


class Nowhere(Spool):
    """A spool that keeps nothing."""

    def append(self, event: Mapping[str, Any], files: Mapping[str, Path | bytes] | None = None) -> None:
        pass
