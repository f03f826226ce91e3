"""What `dcgan clean` finds in the spool and in the project's own store, in a real SQLite database."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import filelock
import mlflow
import pytest
from mlflow.entities import ViewType

from dcgan.system.errors import UserError
from dcgan.system.leftovers import Leftover
from dcgan.tracking.connection import connect
from dcgan.tracking.deleted import deleted
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, TRAINED_IN, Description, spool_of, waiting
from dcgan.tracking.trainings import known_trainings
from dcgan.tracking.unlogged import unlogged


def run_in(spool: Path, fingerprint: str = "f" * 32) -> Run:
    return Run(spool, Description({FINGERPRINT: fingerprint}, "run", {"lr": "0.5"}, opened_with={"git_commit": "c"}))


def removed(leftovers: list[Leftover]) -> None:
    for leftover in leftovers:
        if leftover.remove:
            leftover.remove()


def test_runs_that_wait_are_removed_only_if_their_store_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = spool_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    other = spool_of(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for spool in (own, own, other):
        with run_in(spool).open():
            pass
    listed = list(unlogged(tmp_path, []))
    assert {leftover.where: leftover.count for leftover in listed} == {"mlspool/own": 2, f"mlspool/{other.name}": 1}
    assert not any(leftover.remove for leftover in listed) and "--give-up own" in listed[-1].why
    with pytest.raises(UserError, match=f"--give-up: no runs wait in mlspool/nowhere; .*{other.name}, own"):
        list(unlogged(tmp_path, ["nowhere"]))

    chosen = list(unlogged(tmp_path, [other.name]))
    with filelock.FileLock(other / "sending.lock"), pytest.raises(UserError, match="is logging these runs"):
        removed(chosen)
    with run_in(other).open(), pytest.raises(UserError, match="still writing this run"):
        removed(chosen)
    removed(chosen)
    assert not waiting(other) and len(waiting(own)) == 2


class Store:
    """The project's own store, with runs and models that have files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client, self.experiment = connect(root)

    def run(self, **tags: str) -> str:
        run_id: str = self.client.create_run(self.experiment, tags=tags).info.run_id
        self.client.log_text(run_id, "x" * 5000, "file.txt")
        return run_id

    def model(self, run_id: str) -> str:
        model_id: str = self.client.create_logged_model(self.experiment, "generator", run_id).model_id
        folder = self.root / "mlartifacts" / "models" / model_id / "artifacts"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(7000))
        return model_id

    def runs(self) -> set[str]:
        return {run.info.run_id for run in self.client.search_runs([self.experiment], "", ViewType.ALL)}

    def files(self) -> set[str]:
        own = self.root / "mlartifacts"
        return {path.name for path in (*own.iterdir(), *own.glob("models/*"))} - {"models"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that tests do not change, since MLflow takes seconds to create one."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def store(made: Store) -> Store:
    """An empty store."""
    for run in made.runs():
        made.client.delete_run(run)
    removed(list(deleted(made.root, 0)))
    assert not made.runs()
    return made


def test_what_was_deleted_in_mlflow_is_removed_with_its_models(store: Store) -> None:
    alive, gone = store.run(), store.run()
    models = {run: store.model(run) for run in (alive, gone)}
    store.client.delete_run(gone)
    assert not list(deleted(store.root, 1))  # it can still be restored
    runs, of_runs = deleted(store.root, 0)
    assert (runs.count, of_runs.count) == (1, 1) and runs.size > 5000 and of_runs.size > 7000
    removed([runs, of_runs])
    assert store.runs() == {alive} and store.files() == {alive, models[alive]}
    assert not list(deleted(store.root, 0))


def test_models_that_mlflow_gc_has_left_are_removed(store: Store) -> None:
    gone = store.run()
    store.model(gone)
    store.client.delete_run(gone)
    runs, _ = deleted(store.root, 0)
    removed([runs])  # as `mlflow gc`
    removed(list(deleted(store.root, 0)))
    assert store.files() == set()


def test_what_a_registered_model_or_an_evaluation_needs_is_kept_until_that_is_deleted(store: Store) -> None:
    registered, trained = store.run(), store.run()
    model, program = store.model(registered), store.model(registered)
    evaluation = store.run(**{TRAINED_IN: trained})
    store.client.create_registered_model("dcgan")
    store.client.create_model_version("dcgan", f"models:/{model}", registered)
    for run in (registered, trained):
        store.client.delete_run(run)
    saved = store.root / "checkpoints" / ("c" * 32)
    saved.mkdir(parents=True)
    store.client.delete_run(store.run(**{FINGERPRINT: saved.name}))
    (kept,) = deleted(store.root, 0)
    assert kept.remove is None and kept.count == 3 and "an evaluation or a checkpoint needs" in kept.why

    saved.rmdir()
    store.client.delete_model_version("dcgan", "1")
    store.client.delete_registered_model("dcgan")
    store.client.delete_run(evaluation)
    removed(list(deleted(store.root, 0)))
    assert not store.runs() and not {model, program} & store.files()


def test_files_that_no_database_knows_are_removed_when_they_are_old(store: Store, tmp_path: Path) -> None:
    known, elsewhere, lost = store.run(), "e" * 32, "f" * 32
    own = store.root / "mlartifacts"
    for name in (elsewhere, lost, "1"):  # 1: the folder of an experiment that was created in the UI
        (own / name).mkdir()
    other = Store(tmp_path)
    in_other = other.run()
    (own / elsewhere).rename(own / in_other)
    shutil.copy(tmp_path / "mlflow.db", store.root / "other.db")  # a second store, with its files in the same folder
    (store.root / "notes.db").write_text("not a database")
    assert not list(deleted(store.root, 1))
    os.utime(own / lost, (time.time() - 2 * 86400,) * 2)
    os.utime(own / in_other, (time.time() - 2 * 86400,) * 2)
    (unknown,) = deleted(store.root, 1)
    assert unknown.count == 1 and "no database in this folder knows" in unknown.why
    removed([unknown])
    assert {known, in_other, "1"} <= store.files() and lost not in store.files()


def test_a_copied_projects_database_leads_to_no_file_of_the_original(store: Store, tmp_path: Path) -> None:
    gone = store.run()
    store.client.delete_run(gone)
    shutil.copytree(store.root, tmp_path / "copy")
    removed(list(deleted(tmp_path / "copy", 0)))
    assert gone in store.files() and not list(deleted(tmp_path / "nothing", 0))
    (tmp_path / "copy" / "mlflow.db").write_bytes(b"of another program, or of an older MLflow")
    (unreadable,) = deleted(tmp_path / "copy", 0)
    assert unreadable.remove is None and "a database cannot be read" in unreadable.why


def test_the_settings_of_a_training_are_known_from_mlflow_and_from_the_spool(store: Store) -> None:
    logged = store.run(**{FINGERPRINT: "a" * 32, "git_commit": "b"})
    store.client.log_param(logged, "lr", "0.25")
    store.client.delete_run(logged)
    with run_in(spool_of(store.root)).open():
        pass
    known, unreachable = known_trainings(store.root, ["a" * 32, "f" * 32, "9" * 32])
    assert {name: dict(training.params) for name, training in known.items()} == {
        "a" * 32: {"lr": "0.25"},
        "f" * 32: {"lr": "0.5"},
    }
    assert [known["a" * 32].commit, known["f" * 32].commit, unreachable] == ["b", "c", ""]


def test_a_store_that_cannot_be_reached_is_named_and_none_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known_trainings(tmp_path, ["a" * 32]) == ({}, "") and not list(tmp_path.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    known, unreachable = known_trainings(tmp_path, ["a" * 32])
    assert known == {} and "MLflow cannot be reached" in unreachable
    assert mlflow.get_tracking_uri() == "http://127.0.0.1:1"
