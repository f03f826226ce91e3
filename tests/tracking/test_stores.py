"""No project writes into another's store or files, wherever it lies and however many use one store."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as Found
from servers import free_port, mlflow_server

from dcgan import networks
from dcgan.__main__ import main
from dcgan.networks import Generator, Settings
from dcgan.system.files import sha256
from dcgan.tracking import connection, registry
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, GENERATOR_SHA256, Description, spool_of, waiting
from dcgan.tracking.sender import send

SMALL = Settings(image_size=32, nz=8, ngf=4, ndf=4)


UPLOAD = (
    "import sys, pathlib; from dcgan.tracking.sender import send\nassert send(pathlib.Path(sys.argv[1])), sys.argv[1]\n"
)


def log(root: Path, fingerprint: str = "f1", step: int = 1) -> None:
    root.mkdir(exist_ok=True)
    with Run(spool_of(root), Description({FINGERPRINT: fingerprint}, fingerprint, {})).open() as run:
        run.metrics(step, {"d_loss": 1.0})
        run.artifact("text.txt", fingerprint)


def runs(uri: str) -> list[Found]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(connection.EXPERIMENT)
    assert experiment
    return list(client.search_runs([experiment.experiment_id]))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_of_a_project_leaves_the_originals_files_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project, copy = tmp_path / "project", tmp_path / "copy"
    log(project)
    assert send(project) and not caplog.records
    shutil.copytree(project, copy)
    before = files(project)
    log(copy, "f2")
    assert not send(copy) and files(project) == before and len(waiting(spool_of(copy))) == 1
    assert f"mlflow.db is a copy of the store of the project in {project}" in caplog.text
    assert f"remove {copy / 'mlflow.db'}" in caplog.text
    (copy / "mlflow.db").unlink()
    subprocess.run([sys.executable, "-c", UPLOAD, str(copy)], check=True)
    assert files(project) == before
    with contextlib.closing(sqlite3.connect(copy / "mlflow.db")) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [("f2",)]


def test_a_relative_address_counts_from_the_projects_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///shared.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    log(tmp_path)
    assert send(tmp_path) and len(runs(connection.address(tmp_path))) == 1
    assert (tmp_path / "shared.db").exists() and not files(tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["a b", "a?b", "a#b", "a%20b"])
def test_a_folder_of_any_name_has_a_store(tmp_path: Path, name: str) -> None:
    log(tmp_path / name)
    assert send(tmp_path / name)
    (run,) = runs(connection.address(tmp_path / name))
    text = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="text.txt")
    assert Path(text).read_text() == "f1"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / name not in path.parents]


def test_clones_that_log_the_same_training_to_one_store_at_once_have_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # a store that does not exist yet
    clones = [tmp_path / name for name in "abc"]
    for clone in clones:
        for step in (1, 2):
            log(clone, step=step)
    started = [
        subprocess.Popen([sys.executable, "-c", UPLOAD, str(clone)], stderr=subprocess.PIPE, text=True)
        for clone in clones
    ]
    for process in started:
        errors = process.communicate()[1]
        assert process.returncode == 0 and "WARNING" not in errors, errors
    (run,) = runs(uri)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "loss/d_loss")
    assert sorted(point.step for point in history) == [1, 2]


@pytest.mark.long
def test_clones_that_log_the_same_training_to_one_server_at_once_have_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, clones = free_port(), [tmp_path / name for name in "abc"]
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for clone in clones:
        for step in (1, 2):
            log(clone, step=step)
    with mlflow_server(tmp_path, port):
        started = [
            subprocess.Popen([sys.executable, "-c", UPLOAD, str(clone)], stderr=subprocess.PIPE) for clone in clones
        ]
        said = [process.communicate()[1].decode() for process in started]
        waited = [process.returncode != 0 for process in started]
        assert sum(waited) < len(clones), said
        for clone, had_to_wait, text in zip(clones, waited, said, strict=True):
            assert not had_to_wait or "a clone of this project is logging the run f1, too" in text
            assert send(clone)
        (run,) = runs(uri)
        client = MlflowClient(uri)
        history = client.get_metric_history(run.info.run_id, "loss/d_loss")
        assert sorted(point.step for point in history) == [1, 2] and run.info.status == "FINISHED"
        assert not [tag for tag in client.get_experiment(run.info.experiment_id).tags if tag.startswith("logging-")]


@pytest.mark.parametrize("gone", ["run", "model"])
def test_a_champion_that_was_deleted_for_good_is_registered_again(tmp_path: Path, gone: str) -> None:
    torch.manual_seed(0)
    generator = tmp_path / "generator.safetensors"
    networks.save(generator, Generator(SMALL).eval(), SMALL, {})
    about = {"name": "dcgan-avatars", "metric": "frechet_distance", "distance": 1.0}

    def evaluated() -> None:
        identity = {GENERATOR_SHA256: sha256(generator)}
        with Run(spool_of(tmp_path), Description(identity, "restored", {})).open() as run:
            run.model(generator)
            run.describe(registered=about | {"protocol": {"samples": "2000"}, "card": "card"})
        assert send(tmp_path)

    evaluated()
    uri = connection.address(tmp_path)
    client = MlflowClient(uri)
    first = client.get_model_version_by_alias("dcgan-avatars", registry.CHAMPION)
    model = first.source.removeprefix("models:/")
    if gone == "run":
        client.delete_run(first.run_id)
    client.delete_logged_model(model)
    chosen = ["--run-ids", first.run_id] if gone == "run" else ["--logged-model-ids", model]
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri, *chosen]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    evaluated()
    again = client.get_model_version_by_alias("dcgan-avatars", registry.CHAMPION)
    assert again.version != first.version
    mlflow.set_tracking_uri(uri)
    assert mlflow.pyfunc.load_model(f"models:/dcgan-avatars@{registry.CHAMPION}")
    assert [version.version for version in client.search_model_versions("name = 'dcgan-avatars'")] == [again.version]


def test_the_command_of_another_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it lies in a .venv that was copied along."""
    (tmp_path / "src" / "dcgan").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["check"])
    assert f"{tmp_path}: this `dcgan` runs the code in " in str(end.value) and "remove .venv" in str(end.value)


def test_a_champion_that_somebody_registered_by_hand_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = tmp_path / "generator.safetensors"
    networks.save(generator, Generator(SMALL).eval(), SMALL, {})
    log(tmp_path)
    assert send(tmp_path)
    client = MlflowClient(connection.address(tmp_path))
    (run,) = runs(connection.address(tmp_path))
    client.create_registered_model("dcgan-avatars")
    mine = client.create_model_version("dcgan-avatars", f"{run.info.artifact_uri}/text.txt", run.info.run_id)
    client.set_registered_model_alias("dcgan-avatars", registry.CHAMPION, mine.version)
    about = {"name": "dcgan-avatars", "metric": "frechet_distance", "distance": 1.0, "card": "card"}
    with Run(spool_of(tmp_path), Description({GENERATOR_SHA256: sha256(generator)}, "restored", {})).open() as other:
        other.model(generator)
        other.describe(registered=about | {"protocol": {"samples": "2000"}})
    assert send(tmp_path)
    versions = {version.version for version in client.search_model_versions("name = 'dcgan-avatars'")}
    assert mine.version in versions and len(versions) == 2
