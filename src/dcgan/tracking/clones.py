"""Lets one clone of the project at a time log a run to a store that clones share.

Clones that train the same at once would otherwise create two runs of it, or log each point twice. A clone holds a run
by a lock beside a SQLite database. In other stores, which have no locks, it holds it by a tag of the experiment.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
from pathlib import Path

import filelock
import mlflow

from dcgan.tracking.connection import database_of
from dcgan.tracking.run_folder import EVALUATION, Description

_LOCK_SECONDS = 30  # to wait for a lock
_VOID_SECONDS = 120  # after which a tag that was not renewed, as by a killed process, is void
_RENEWAL_SECONDS = 30
_SETTLE_SECONDS = 0.5  # after which a tag is read again, since two clones may have set it at once


class Clones:
    """The clones of the project at `root` that log to an experiment of a store."""

    def __init__(self, client: mlflow.MlflowClient, experiment: str, root: Path) -> None:
        self._client, self._experiment = client, experiment
        self._shared = bool(os.environ.get("MLFLOW_TRACKING_URI"))  # otherwise the store is the project's own
        self._me = hashlib.sha256(f"{socket.gethostname()} {root.resolve()}".encode()).hexdigest()[:12]
        self._locks: dict[str, filelock.BaseFileLock] = {}
        self._renewed: dict[str, float] = {}  # by tag

    def hold(self, about: Description) -> None:
        """Holds a run for this clone, until this process ends, or `leave`; called before each upload.

        Raises:
            TimeoutError: another clone holds the run.
        """
        if not self._shared:
            return
        database = database_of(str(self._client.tracking_uri))
        if not (self._lock(database, _key(about)) if database else self._tag(_key(about))):
            raise TimeoutError(f"a clone of this project is logging the run {about.name}, too")

    def leave(self, about: Description) -> None:
        """Lets other clones log a run that this clone has logged completely."""
        if self._renewed.pop(_key(about), None) is not None:
            self._client.delete_experiment_tag(self._experiment, _key(about))

    def _lock(self, database: Path, key: str) -> bool:
        folder = database.with_name(f"{database.name}.locks")
        folder.mkdir(exist_ok=True)
        lock = self._locks.setdefault(key, filelock.FileLock(folder / key, timeout=_LOCK_SECONDS))
        try:
            if not lock.is_locked:
                lock.acquire()
        except filelock.Timeout:
            return False
        return True

    def _tag(self, key: str) -> bool:
        if time.monotonic() - self._renewed.get(key, -math.inf) < _RENEWAL_SECONDS:
            return True
        if self._holder(key) not in ("", self._me):
            return False
        self._client.set_experiment_tag(self._experiment, key, f"{self._me} {time.time():.0f}")
        if key not in self._renewed:
            time.sleep(_SETTLE_SECONDS)
            if self._holder(key) != self._me:
                return False
        self._renewed[key] = time.monotonic()
        return True

    def _holder(self, key: str) -> str:
        """The clone that holds a run by its tag; empty if none does, or no longer."""
        tag = self._client.get_experiment(self._experiment).tags.get(key, " 0")
        holder, _, at = tag.partition(" ")
        return holder if time.time() - float(at) < _VOID_SECONDS else ""


def _key(about: Description) -> str:
    identity = sorted((name, value) for name, value in about.identity.items() if name != EVALUATION)
    return f"logging-{hashlib.sha256(str(identity).encode()).hexdigest()[:16]}"
