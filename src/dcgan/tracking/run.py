"""A run as the stage that computes it writes it, into a folder. Nothing here talks to MLflow."""

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
    """A run as its writer sees it; without a spool nothing is kept.

    Args:
        spool: of the store that is to hold the run, as `spool_of` names it.
        first: files of which a run that MLflow has already keeps its own, by name.
    """

    def __init__(self, spool: Path | None, about: Description, first: Mapping[str, bytes] | None = None) -> None:
        # Folders are sent in the order of their names.
        self.folder = spool / f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}" if spool else None
        self._about, self._first = about, dict(first or {})
        self._lock: filelock.BaseFileLock | None = None
        self._unwritten: list[str] = []  # lines for which there was no room
        self._warned = False

    @contextlib.contextmanager
    def open(self) -> Iterator[Run]:
        """The run begins and ends with the block, as what the block ended in."""
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
        """Changes fields of the description."""
        self._about = replace(self._about, **changed)
        self._keep(lambda folder: write_json(folder / DESCRIPTION, asdict(self._about)))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Values after so many steps; those that the run has already count once. Numbers without a curve: step 0."""
        self._unwritten.append(run_folder.line(step, values))
        self._keep(self._write_metrics)

    def grid(self, step: int, sheet: Pixels | Path) -> None:
        """The fixed latents' pictures after so many steps: (H, W, C), or a PNG file of them."""
        if not isinstance(sheet, Path):
            file = io.BytesIO()
            to_image(sheet).save(file, "PPM")  # to compress it is the sender's work: the training waits for this
        self._file(f"{GRIDS}/{step}", sheet if isinstance(sheet, Path) else file.getvalue())

    def artifact(self, name: str, content: Path | str) -> None:
        """A file, or one of this content; `name` may be a path."""
        self._file(f"{ARTIFACTS}/{name}", content.encode() if isinstance(content, str) else content)

    def model(self, generator: Path) -> None:
        """The generator's file, as MLflow models."""
        self._file(MODEL, generator)

    def _file(self, name: str, content: bytes | Path) -> None:
        self._keep(lambda folder: _write(folder / name, content))

    def _write_metrics(self, folder: Path) -> None:
        run_folder.append(folder / METRICS, self._unwritten)
        self._unwritten = []

    def _keep(self, write: Callable[[Path], object]) -> None:
        """Writes in the folder, which is made if it is not there. What finds no room costs a warning."""
        if self.folder is None:
            return
        try:
            self._lock = self._lock or self._made(self.folder)
            write(self.folder)
        except OSError as error:
            if not self._warned:
                logger.warning("Cannot write what is to be logged to MLflow: %s; continuing without it", error)
            self._warned = True

    def _made(self, folder: Path) -> filelock.BaseFileLock:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = run_folder.lock(folder)
        lock.acquire()  # first, or a sender would take it for that of a dead writer
        with atomic(folder) as temporary:
            write_json(temporary / DESCRIPTION, asdict(self._about))
            for name, content in self._first.items():
                _write(temporary / FIRST / name, content)
        return lock


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """Whatever goes wrong in the block is a warning: what is told to MLflow never ends a stage."""
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
