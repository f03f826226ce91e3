"""Writes a run into a folder, from within the stage that computes it. Nothing here communicates with MLflow."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import filelock

from dcgan.data.images import Pixels, to_image
from dcgan.system.errors import Interrupted
from dcgan.system.files import atomic, write_json
from dcgan.tracking import run_folder
from dcgan.tracking.run_folder import ARTIFACTS, DESCRIPTION, FIRST, GRIDS, METRICS, MODEL, Description, now

logger = logging.getLogger(__name__)


class Run:
    """Writes a run into a folder in a spool; without a spool nothing is written.

    Args:
        spool: folder of runs to be uploaded to one store, see `spool_of`; or None.
        about: description of the run.
        first: files by name; once a run has a generator, it keeps the file of the same name that it has in MLflow.
    """

    def __init__(self, spool: Path | None, about: Description, first: Mapping[str, bytes] | None = None) -> None:
        # Folders are uploaded in the order of their names.
        self.folder = spool / f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}" if spool else None
        self._about, self._first = about, dict(first or {})
        self._lock: filelock.BaseFileLock | None = None
        self._unwritten: list[str] = []  # lines that could not be written yet
        self._warned = False

    @contextlib.contextmanager
    def open(self) -> Iterator[Run]:
        """Starts the run with the block; ends it as FINISHED, or as KILLED or FAILED after an exception."""
        self.describe()
        status = "FAILED"
        try:
            yield self
            status = "FINISHED"
        except (SystemExit, Interrupted):
            status = "KILLED"
            raise
        finally:
            self.describe(status=status, ended=now())
            if self._lock:
                self._lock.release()

    def describe(self, **changed: Any) -> None:
        """Changes fields of the description and writes it."""
        self._about = replace(self._about, **changed)
        self._keep(lambda folder: write_json(folder / DESCRIPTION, asdict(self._about)))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Logs values after `step` steps; repeated values count once. Use step 0 for values without a curve."""
        if self.folder:
            self._unwritten.append(run_folder.line(step, values))
            self._keep(self._write_metrics)

    def grid(self, step: int, sheet: Pixels | Path) -> None:
        """Logs the grid of the fixed latents' pictures after `step` steps: an array (H, W, C) or a PNG file."""
        if not isinstance(sheet, Path):
            file = io.BytesIO()
            to_image(sheet).save(file, "PPM")  # uncompressed, since the training waits; the sender compresses it
        self._file(f"{GRIDS}/{step}", sheet if isinstance(sheet, Path) else file.getvalue())

    def artifact(self, name: str, content: Path | str) -> None:
        """Logs an artifact: a copy of a file, or text; `name` may be a path."""
        self._file(f"{ARTIFACTS}/{name}", content.encode() if isinstance(content, str) else content)

    def model(self, generator: Path) -> None:
        """Logs the generator's file, to be uploaded as MLflow models."""
        self._file(MODEL, generator)

    def _file(self, name: str, content: bytes | Path) -> None:
        self._keep(lambda folder: _write(folder / name, content))

    def _write_metrics(self, folder: Path) -> None:
        run_folder.append(folder / METRICS, self._unwritten)
        self._unwritten = []

    def _keep(self, write: Callable[[Path], object]) -> None:
        """Writes into the folder, which is created if necessary; only the first OSError logs a warning."""
        if self.folder is None:
            return
        try:
            self._lock = self._lock or self._made(self.folder)
            write(self.folder)
        except OSError as error:
            if not self._warned:
                logger.warning("Cannot write the data to be logged to MLflow: %s; continuing without it", error)
            self._warned = True

    def _made(self, folder: Path) -> filelock.BaseFileLock:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = run_folder.lock(folder)
        lock.acquire()  # before the folder exists, otherwise a sender would treat its writer as dead
        with atomic(folder) as temporary:
            write_json(temporary / DESCRIPTION, asdict(self._about))
            for name, content in self._first.items():
                _write(temporary / FIRST / name, content)
        return lock


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """Turns all errors in the block, except Interrupted, into warnings: a failure to log must not end a stage."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        logger.warning("Cannot log %s to MLflow (%s: %s); continuing without it", what, type(error).__name__, error)


def _write(path: Path, content: bytes | Path) -> None:
    with atomic(path) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            shutil.copyfile(content, temporary)
