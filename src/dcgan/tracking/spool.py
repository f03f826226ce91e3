"""Events that MLflow has not been told yet: one JSON-lines file, and beside it the files that its lines name."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from dcgan.files import atomic

Event = dict[str, Any]
_SECONDS = 60  # that somebody waits for another's append


class Spool:
    """The spool of a project, which all of its processes share.

    Args:
        folder: holds `unsent.jsonl` and `files/`; it is created by the first event.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "unsent.jsonl"
        self._files = folder / "files"
        self._lock = filelock.FileLock(folder / "unsent.lock", timeout=_SECONDS)
        self._sending = filelock.FileLock(folder / "sending.lock")

    def append(self, event: Mapping[str, Any], files: Mapping[str, Path | bytes] | None = None) -> None:
        """Adds an event; `files` (by the key under which the event names each) are kept as they are now.

        Raises:
            OSError: the disk is full, or closed to us.
        """
        self._files.mkdir(parents=True, exist_ok=True)
        with self._lock:
            kept = {key: self._keep(content) for key, content in (files or {}).items()}
            line = json.dumps({**event, **({"files": kept} if kept else {})}) + "\n"
            with self.path.open("a") as file:
                file.write(line)

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
        return len(self._lines())

    def _lines(self) -> list[str]:
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        return text.split("\n")[:-1]  # a line that a killed process left without its end is no event

    def drain(self, send: Callable[[Sequence[Event]], int]) -> None:
        """Hands all events to `send` in their order, and removes those that it has sent.

        Args:
            send: takes the first events, and says how many of them it has dealt with: at least one.

        Raises:
            whatever `send` raises; the events that it had not dealt with stay.
        """
        if not self.path.exists():
            return
        with self._sending:
            events = [json.loads(line) for line in self._lines()]
            sent = 0
            try:
                while sent < len(events):
                    sent += send(events[sent:])
            finally:
                self._remove(sent)

    def _remove(self, count: int) -> None:
        """Removes the first lines, and files that no line names any more."""
        with self._lock:
            left = self._lines()[count:]
            with atomic(self.path) as temporary:
                temporary.write_text("".join(line + "\n" for line in left))
            named = {name for line in left for name in json.loads(line).get("files", {}).values()}
            for path in self._files.iterdir():
                if path.name not in named:
                    path.unlink()


class Nowhere(Spool):
    """A spool that keeps nothing."""

    def append(self, event: Mapping[str, Any], files: Mapping[str, Path | bytes] | None = None) -> None:
        pass
