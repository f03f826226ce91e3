"""Files of the project's own store that belong to no run any more, for `dcgan clean`.

`mlflow gc` would do for runs that were deleted in MLflow, but leaves their models, and removes what a registered model
or another run still needs. A list of ids that is empty means all of them to it.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.file_utils import local_file_uri_to_path

from dcgan.system.files import remove
from dcgan.system.leftovers import Leftover, age, remove_all, size
from dcgan.tracking.connection import own_files
from dcgan.tracking.run_folder import FINGERPRINT, TRAINED_IN

_RUNS = "SELECT run_uuid AS id, artifact_uri AS place, deleted_time AS time, lifecycle_stage AS stage FROM runs"
_MODELS = (
    "SELECT model_id AS id, artifact_location AS place, last_updated_timestamp_ms AS time, lifecycle_stage AS stage, "
    "source_run_id AS run FROM logged_models"
)
_VERSIONS = "SELECT run_id, source FROM model_versions WHERE current_stage != 'Deleted_Internal'"
_MODEL_ID = re.compile("m-[0-9a-f]{32}")
_TRAINED_IN = (
    f"SELECT value FROM tags JOIN runs USING (run_uuid) WHERE key = '{TRAINED_IN}' AND lifecycle_stage = 'active'"
)

_FINGERPRINTS = f"SELECT run_uuid, value FROM tags WHERE key = '{FINGERPRINT}'"


@dataclass(frozen=True)
class _Content:
    """The database: rows by id, and what must be kept."""

    runs: Mapping[str, Any]
    models: Mapping[str, Any]
    needed: frozenset[str]  # ids of runs and models that a registered model, an active run or a checkpoint refers to


def deleted(root: Path, days: float) -> Iterator[Leftover]:
    """Files in `mlartifacts/` of runs and models that were deleted in MLflow, or that no database knows.

    Only the project's own store is looked at, and only files in its own folder. A project without `mlflow.db` has
    nothing to compare the files with.

    Args:
        root: the project's root.
        days: how long ago they must have been deleted, or changed last.
    """
    database, own = root.resolve() / "mlflow.db", own_files(root)
    if not database.exists() or own.resolve() != own:
        return
    folders = [*_folders(own)]  # before the databases are read, so that what is new in the folder is known to them
    try:
        content, known = _read(database), {id for file in root.glob("*.db") for id in _ids(file)}
    except sqlite3.Error as error:
        yield Leftover("mlartifacts", 0, 0, f"a database cannot be read ({error}); clean again later, or upgrade it")
        return
    runs, models = _gone(content, (time.time() - days * 86400) * 1000)
    for what, ids, rows in (("runs", runs, content.runs), ("models", models, content.models)):
        inside = {id: place for id in ids if (place := _own_folder(rows[id]["place"], own))}
        free = {id: place for id, place in inside.items() if id not in content.needed}
        kept = [place for id, place in inside.items() if id in content.needed]
        if free:
            why = f"{what} that were deleted in MLflow"
            yield Leftover("mlartifacts", len(free), size(free.values()), why, partial(_remove, database, what, free))
        if kept:
            why = f"deleted {what} that a version of a registered model, an evaluation or a checkpoint needs"
            yield Leftover("mlartifacts", len(kept), size(kept), f"{why}; delete that first")
    unknown = [folder for folder in folders if folder.name not in known and age(folder) >= days]
    if unknown:
        why = "files of runs and models that no database in this folder knows"
        yield Leftover("mlartifacts", len(unknown), size(unknown), why, partial(remove_all, unknown))


def _gone(content: _Content, before: float) -> tuple[set[str], set[str]]:
    """The runs and models that were deleted before a time in milliseconds, and models of runs that are deleted."""
    runs = {id for id, run in content.runs.items() if run["stage"] == "deleted" and (run["time"] or 0) <= before}
    models = {
        id
        for id, model in content.models.items()
        if (model["stage"] == "deleted" and model["time"] <= before)
        or model["run"] in runs - content.needed
        or (model["run"] and model["run"] not in content.runs and model["time"] <= before)
    }
    return runs, models


def _folders(own: Path) -> Iterator[Path]:
    """The folders of runs and models; those of other experiments have other names."""
    yield from (path for path in own.glob("[0-9a-f]*") if len(path.name) == 32 and path.is_dir())
    yield from (path for path in own.glob("models/m-*") if path.is_dir())


def _own_folder(place: str | None, own: Path) -> Path | None:
    """The folder in `mlartifacts/` of a run or model whose artifacts are at `place`; None if they are elsewhere."""
    if place is None or not place.startswith(("file:", "/")):
        return None
    folder = Path(local_file_uri_to_path(place)).resolve().parent
    return folder if folder.is_relative_to(own) and folder != own else None


def _read(database: Path) -> _Content:
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        runs, models = ({row["id"]: row for row in connection.execute(query)} for query in (_RUNS, _MODELS))
        versions = [*connection.execute(_VERSIONS)]
        needed = {version["run_id"] for version in versions} | {row[0] for row in connection.execute(_TRAINED_IN)}
        # The settings of a training whose checkpoints are kept are known from its run.
        saved = {path.name for path in (database.parent / "checkpoints").glob("*/")}
        needed |= {run for run, fingerprint in connection.execute(_FINGERPRINTS) if fingerprint in saved}
        needed |= {id for version in versions for id in _MODEL_ID.findall(version["source"])}
        return _Content(runs, models, frozenset(needed))


def _ids(file: Path) -> Iterator[str]:
    """The runs and models in any database, also of an older MLflow; none if it is no database or not of MLflow."""
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        for query in ("SELECT run_uuid FROM runs", "SELECT model_id FROM logged_models"):
            try:
                yield from (str(row[0]) for row in connection.execute(query))
            except sqlite3.Error as error:
                if not re.search("no such|not a database", str(error)):
                    raise


def _remove(database: Path, what: str, folders: Mapping[str, Path]) -> None:
    """Removes files before rows, as `mlflow gc` does, so that a killed process leaves nothing that is not listed."""
    store = SqlAlchemyStore(f"sqlite:///{database}", str(database.parent))
    forget = store._hard_delete_run if what == "runs" else store._hard_delete_logged_model
    for id, folder in folders.items():
        remove(folder)
        forget(id)
