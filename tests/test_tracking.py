"""MLflow: one run for each combination, found again by the generator's hash, and never in the way."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from project import ROOT

from dcgan.errors import Interrupted
from dcgan.networks import Generator, Settings
from dcgan.tracking import EXPERIMENT, Tracker

SMALL = Settings(image_size=32, nz=8, ngf=4, ndf=4)
PARAMS = {"lr": 0.1, "crop_size": None}


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    yield
    assert mlflow.active_run() is None


def runs(root: Path) -> list[mlflow.entities.Run]:
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    found: list[mlflow.entities.Run] = mlflow.search_runs(
        experiment_names=[EXPERIMENT], output_format="list", order_by=["start_time"]
    )
    return found


def train(root: Path, fingerprint: str, sha: str) -> None:
    tracker = Tracker(root)
    with tracker.training("name", fingerprint, PARAMS, {"device": "cpu"}) as wanted:
        if wanted:
            tracker.losses(10, {"d_loss": 1.0})
            tracker.losses(20, {"d_loss": 0.5})
            tracker.grid(20, np.zeros((8, 8, 3), np.uint8))
            tracker.trained(sha, Generator(SMALL))


def test_a_training_is_one_run_with_curves_pictures_and_model(tmp_path: Path) -> None:
    train(tmp_path, "f1", "sha1")
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1", "crop_size": ""}
    client = mlflow.MlflowClient()
    history = client.get_metric_history(run.info.run_id, "d_loss")
    assert [(point.step, point.value) for point in history] == [(10, 1.0), (20, 0.5)]
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    assert any(item.path.endswith(".png") for item in client.list_artifacts(run.info.run_id, "images"))


def test_the_model_is_an_exported_program_that_takes_any_number_of_latents(tmp_path: Path) -> None:
    generator = Generator(SMALL).eval()
    tracker = Tracker(tmp_path)
    with tracker.training("name", "f1", PARAMS, {}):
        tracker.trained("sha1", generator)
    (model,) = mlflow.search_logged_models(output_format="list")
    files = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pt2" for path in files)
    assert not any(path.suffix in (".pkl", ".pth", ".pickle") for path in files)
    latents = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    pictures = mlflow.pyfunc.load_model(model.model_uri).predict(latents)
    with torch.no_grad():
        np.testing.assert_allclose(pictures, generator(torch.from_numpy(latents)).numpy(), atol=1e-5)


def test_a_training_that_was_interrupted_goes_on_in_its_run(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    with pytest.raises(Interrupted), tracker.training("name", "f1", PARAMS, {}):
        tracker.losses(10, {"d_loss": 1.0})
        raise Interrupted(15)
    assert [run.info.status for run in runs(tmp_path)] == ["KILLED"]
    train(tmp_path, "f1", "sha1")
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and run.data.tags["generator_sha256"] == "sha1"


def test_a_training_that_is_known_logs_nothing_twice(tmp_path: Path) -> None:
    train(tmp_path, "f1", "sha1")
    train(tmp_path, "f1", "sha1")
    (run,) = runs(tmp_path)
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "d_loss")) == 2


def test_another_training_is_another_run(tmp_path: Path) -> None:
    train(tmp_path, "f1", "sha1")
    train(tmp_path, "f2", "sha2")
    assert len(runs(tmp_path)) == 2


def evaluate(root: Path, evaluation: str, samples: int) -> None:
    tracker = Tracker(root)
    with tracker.of_generator("sha1", "name", PARAMS, evaluation, {"fid_samples": samples}):
        tracker.metrics({"frechet_distance": float(samples)})


def test_the_first_evaluation_joins_the_training_and_others_stand_beside_it(tmp_path: Path) -> None:
    train(tmp_path, "f1", "sha1")
    evaluate(tmp_path, "e1", 100)
    evaluate(tmp_path, "e1", 100)
    evaluate(tmp_path, "e2", 200)
    evaluate(tmp_path, "e2", 200)
    first, second = runs(tmp_path)
    assert first.data.params["fid_samples"] == "100" and first.data.metrics["frechet_distance"] == 100
    assert second.data.params == {"lr": "0.1", "crop_size": "", "fid_samples": "200"}
    assert second.data.tags["trained_in"] == first.info.run_id


def test_samples_go_to_the_run_that_trained(tmp_path: Path) -> None:
    train(tmp_path, "f1", "sha1")
    picture = tmp_path / "samples.png"
    picture.write_bytes(b"picture")
    tracker = Tracker(tmp_path)
    with tracker.of_generator("sha1", "name", PARAMS):
        tracker.artifacts(picture)
    (run,) = runs(tmp_path)
    assert "samples.png" in [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)]


def test_a_generator_that_the_store_has_never_seen_gets_a_run_marked_restored(tmp_path: Path) -> None:
    evaluate(tmp_path, "e1", 100)
    (run,) = runs(tmp_path)
    assert run.data.tags["restored"] == "true" and run.data.params["lr"] == "0.1"


def test_a_dead_server_costs_a_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        train(tmp_path, "f1", "sha1")
        evaluate(tmp_path, "e1", 100)
    assert [record.message for record in caplog.records if "MLflow could not record" in record.message] != []
    assert not (tmp_path / "mlflow.db").exists()


def test_processes_that_meet_an_empty_store_do_not_break_each_other(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dcgan.tracking import Tracker\n"
        "t = Tracker(pathlib.Path(sys.argv[1]))\n"
        "with t.training(sys.argv[2], sys.argv[2], {}, {}): t.losses(1, {'d_loss': 1.0})"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert sorted(run.info.run_name for run in runs(tmp_path)) == ["a", "b", "c"]
