"""MLflow: one run for each combination, found again by the generator's hash, and never in the way."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as Found
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from project import ROOT
from servers import free_port, running

from dcgan import networks
from dcgan.networks import Generator, Settings
from dcgan.system.errors import Interrupted
from dcgan.system.files import sha256
from dcgan.tracking import registry, sender, store
from dcgan.tracking.events import EVALUATION, FINGERPRINT, GENERATOR, SPOOL, Run, sending, spool_of

SMALL = Settings(image_size=32, nz=8, ngf=4, ndf=4)
PARAMS = {"lr": 0.1, "crop_size": None}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database as its first use leaves it, since making one takes seconds."""
    root = tmp_path_factory.mktemp("store")
    MlflowClient(f"sqlite:///{root / 'mlflow.db'}").search_experiments()
    return (root / "mlflow.db").read_bytes()


@pytest.fixture
def root(tmp_path: Path, empty_store: bytes) -> Path:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return tmp_path


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "generator.safetensors"
    torch.manual_seed(0)
    networks.save(path, Generator(SMALL).eval(), SMALL, {})
    return path


def sent(root: Path) -> bool:
    """Sends what is in the spool, as a sender does at its end."""
    ended = threading.Event()
    ended.set()
    return sender.send_until(ended, spool_of(root), root)


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def runs(client: MlflowClient) -> list[Found]:
    experiment = client.get_experiment_by_name(store.EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], order_by=["start_time"])) if experiment else []


def training(root: Path, fingerprint: str = "f1") -> Run:
    run = Run(spool_of(root), {FINGERPRINT: fingerprint})
    run.open("name", PARAMS, {"device": "cpu"})
    return run


def train(root: Path, fingerprint: str = "f1", sha: str = "sha1") -> None:
    run = training(root, fingerprint)
    with run.ended():
        run.losses(10, {"d_loss": 1.0})
        run.losses(20, {"d_loss": 0.5})
        run.grid(20, np.zeros((8, 8, 3), np.uint8))
        run.tags({GENERATOR: sha})


def evaluation(root: Path, identity: str, samples: int, sha: str = "sha1") -> Run:
    run = Run(spool_of(root), {GENERATOR: sha, EVALUATION: identity})
    run.open("evaluated", PARAMS, {}, {"fid_samples": samples})
    run.metrics({"frechet_distance": float(samples)})
    return run


def curve(client: MlflowClient, run: Found, name: str = "d_loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


# Runs.


def test_a_training_is_one_run_with_curves_and_pictures(root: Path) -> None:
    train(root)
    assert sent(root)
    (run,) = runs(client_of(root))
    assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1", "crop_size": ""}
    assert run.data.tags["device"] == "cpu" and run.data.tags[GENERATOR] == "sha1"
    assert curve(client_of(root), run) == [(10, 1.0), (20, 0.5)]
    assert run.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert len(client_of(root).list_artifacts(run.info.run_id, "images")) == 2  # MLflow keeps a small one beside it


def test_what_is_told_again_counts_once(root: Path, generator: Path) -> None:
    for _ in range(2):
        train(root)
        run = Run(spool_of(root), {GENERATOR: "sha1"})
        run.model(generator)
        run.dataset("avatars", "digest", {"uri": "data/faces"}, {"faces": 3})
        assert sent(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(10, 1.0), (20, 0.5)]
    assert len(client_of(root).list_artifacts(found.info.run_id, "images")) == 2
    models = client_of(root).search_logged_models([found.info.experiment_id])
    assert sorted(model.name for model in models) == ["generator", "generator_program"]
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("avatars", "digest")


def test_a_training_that_was_interrupted_goes_on_in_its_run(root: Path) -> None:
    run = training(root)
    with pytest.raises(Interrupted), run.ended():
        run.losses(10, {"d_loss": 1.0})
        raise Interrupted(15)
    assert sent(root)
    assert [run.info.status for run in runs(client_of(root))] == ["KILLED"]
    training(root)
    assert sent(root)
    assert [run.info.status for run in runs(client_of(root))] == ["RUNNING"]
    train(root)
    assert sent(root)
    (found,) = runs(client_of(root))
    assert found.info.status == "FINISHED" and curve(client_of(root), found) == [(10, 1.0), (20, 0.5)]


def test_a_training_that_was_killed_is_told_to_be_so(root: Path) -> None:
    """By its sender, whose standard error ends when all is told."""
    code = (
        "import os, sys, pathlib; from dcgan.tracking.events import Run, sending\n"
        "with sending(pathlib.Path(sys.argv[1]), {'fingerprint': 'f1'}) as spool:\n"
        "    Run(spool, {'fingerprint': 'f1'}).open('name', {}, {})\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL and killed.stderr == ""
    assert [run.info.status for run in runs(client_of(root))] == ["KILLED"]
    # One that has said how it ended did so.
    run = training(root)
    for status in ("FAILED", "FINISHED"):
        run.reopen()
        run.end(status)
        run.died()
        assert sent(root)
        assert [run.info.status for run in runs(client_of(root))] == [status]


def test_another_training_is_another_run(root: Path) -> None:
    train(root, "f1", "sha1")
    train(root, "f2", "sha2")
    assert sent(root) and len(runs(client_of(root))) == 2


def test_the_first_evaluation_joins_the_training_and_others_stand_beside_it(root: Path) -> None:
    train(root)
    for identity, samples in (("e1", 100), ("e1", 100), ("e2", 200), ("e2", 200)):
        evaluation(root, identity, samples)
    assert sent(root)
    first, second = runs(client_of(root))
    assert first.data.params["fid_samples"] == "100" and first.data.metrics["frechet_distance"] == 100
    assert second.data.params == {"lr": "0.1", "crop_size": "", "fid_samples": "200"}
    assert second.data.tags["trained_in"] == first.info.run_id and second.info.status == "FINISHED"


def test_a_generator_that_the_store_has_never_seen_gets_a_run_marked_restored(root: Path, tmp_path: Path) -> None:
    losses, grid = tmp_path / "losses.csv", tmp_path / "epoch_00001.png"
    losses.write_text("step,d_loss,penalty\n2,0.5,\n4,0.25,0.125\n")
    run = Run(spool_of(root), {GENERATOR: "sha1"})
    run.grid(1, np.zeros((8, 8, 3), np.uint8))
    grid.write_bytes(next((spool_of(root).folder / "files").iterdir()).read_bytes())
    for _ in range(2):
        run.open("restored", PARAMS, {})
        run.restored(losses, [grid, grid])
    evaluation(root, "e1", 100)
    assert sent(root)
    (found,) = runs(client_of(root))
    assert found.data.tags["restored"] == "true" and found.data.params["lr"] == "0.1"
    names = [Path(item.path).name for item in client_of(root).list_artifacts(found.info.run_id, "images")]
    assert {int(name.split("+")[2]) for name in names} == {0, 4}  # the first step and the last
    assert curve(client_of(root), found) == [(2, 0.5), (4, 0.25)]
    assert curve(client_of(root), found, "penalty") == [(4, 0.125)]
    assert found.data.metrics["frechet_distance"] == 100


def test_a_training_that_the_store_has_seen_takes_no_coarser_curves(root: Path, tmp_path: Path) -> None:
    train(root)
    losses = tmp_path / "losses.csv"
    losses.write_text("step,d_loss\n15,0.5\n")
    Run(spool_of(root), {GENERATOR: "sha1"}).restored(losses, [])
    assert sent(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(10, 1.0), (20, 0.5)]


def test_files_and_texts_go_to_the_run_under_their_names(root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "samples.png"
    picture.write_bytes(b"picture")
    run = training(root)
    run.artifacts(picture)
    run.text("lineage/digests.json", "[]")
    run.text("lineage/digests.json", "{}")
    for patch in ("as it was", "as it became"):
        run.text("lineage/uncommitted.patch", patch, once=True)
    assert sent(root)
    (found,) = runs(client_of(root))
    folder = Path(client_of(root).download_artifacts(found.info.run_id, ""))
    assert (folder / "samples.png").read_bytes() == b"picture" and (folder / "lineage/digests.json").read_text() == "{}"
    assert (folder / "lineage/uncommitted.patch").read_text() == "as it was"


def test_two_trainings_of_the_same_bytes_each_have_their_results(root: Path) -> None:
    train(root, "f1", "sha1")
    evaluation(root, "e1", 100)
    train(root, "f2", "sha1")
    evaluation(root, "e1", 100)
    assert sent(root)
    first, second = runs(client_of(root))
    assert first.data.metrics["frechet_distance"] == second.data.metrics["frechet_distance"] == 100
    evaluation(root, "e2", 200)
    assert sent(root)
    assert runs(client_of(root))[2].data.tags["trained_in"] == second.info.run_id


def test_a_point_that_is_told_twice_in_a_row_counts_once(root: Path) -> None:
    run = training(root)
    run.measured(5, {"quick_frechet_distance": 7.0})
    run.points([(5, {"quick_frechet_distance": 7.0})])
    assert sent(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found, "quick_frechet_distance") == [(5, 7.0)]


def test_two_senders_tell_a_point_once(root: Path) -> None:
    """Each knows what a run has, and not what the other has told it since."""

    class Sender:
        def __init__(self) -> None:
            self.store, self.spool = store.Store(root), spool_of(root)

        def send(self) -> None:
            self.spool.drain(partial(self.store.send, spool=self.spool), self.store.forget)

    first, second = Sender(), Sender()
    run = training(root)
    for sender_, step in ((first, 10), (second, 20), (first, 20), (second, 10)):
        run.losses(step, {"d_loss": 1.0})
        run.grid(step, np.zeros((8, 8, 3), np.uint8))
        sender_.send()
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(10, 1.0), (20, 1.0)]
    assert len(client_of(root).list_artifacts(found.info.run_id, "images")) == 4  # a small one beside each


# Models.


def test_the_exported_program_takes_any_number_of_latents_and_no_model_is_a_pickle(root: Path, generator: Path) -> None:
    training(root).model(generator)
    assert sent(root)
    found = client_of(root).search_logged_models([runs(client_of(root))[0].info.experiment_id])
    program = next(model for model in found if model.name == "generator_program")
    files = [path for path in (root / "mlartifacts").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pt2" for path in files) and any(path.suffix == ".safetensors" for path in files)
    assert not any(path.suffix in (".pkl", ".pth", ".pickle") for path in files)
    latents = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    pictures = mlflow.pyfunc.load_model(program.artifact_location).predict(latents)
    with torch.no_grad():
        expected = networks.load_generator(generator)(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(pictures, expected, atol=1e-5)


def test_the_champion_is_the_nearest_of_its_protocol(root: Path, generator: Path, tmp_path: Path) -> None:
    shas: dict[str, str] = {}

    def measured(name: str, distance: float, protocol: str) -> None:
        path = tmp_path / f"{name}.safetensors"
        networks.save(path, networks.load_generator(generator), SMALL, {"name": name})
        sha = sha256(path)
        shas[sha] = name
        run = Run(spool_of(root), {FINGERPRINT: name})
        run.open(name, PARAMS, {})
        run.model(path)
        run.tags({GENERATOR: sha})
        run.register("dcgan-avatars", "frechet_distance", distance, {"samples": protocol}, f"card of {name}")
        assert sent(root)

    def champion() -> str:
        return shas[client_of(root).get_model_version_by_alias("dcgan-avatars", registry.CHAMPION).tags[GENERATOR]]

    measured("good", 200, "2000")
    assert champion() == "good"
    measured("bad", 300, "2000")
    measured("other", 50, "100")  # cannot be compared
    assert champion() == "good"
    measured("best", 100, "2000")
    measured("equal", 100, "2000")
    measured("best", 100, "2000")
    assert champion() == "best"
    versions = client_of(root).search_model_versions("name = 'dcgan-avatars'")
    assert sorted(shas[version.tags[GENERATOR]] for version in versions) == ["bad", "best", "equal", "good", "other"]
    assert {version.description for version in versions} >= {"card of best"}
    # The champion that somebody chose makes its protocol count.
    other = next(version for version in versions if shas[version.tags[GENERATOR]] == "other")
    client_of(root).set_registered_model_alias("dcgan-avatars", registry.CHAMPION, other.version)
    measured("better", 10, "2000")
    assert champion() == "other"
    measured("better", 20, "100")
    assert champion() == "better"
    # Where it is deleted, the nearest of those that are left follows it, not the next that comes.
    better = client_of(root).get_model_version_by_alias("dcgan-avatars", registry.CHAMPION)
    client_of(root).delete_model_version("dcgan-avatars", better.version)
    measured("bad", 300, "2000")
    assert champion() == "best"


# Failures.


def server(root: Path, port: int) -> AbstractContextManager[None]:
    """A tracking server, killed at the end of the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(root / "files")]
    return running(command, f"http://127.0.0.1:{port}/health", root, end=signal.SIGKILL)


@pytest.mark.long
def test_a_server_that_is_killed_and_started_again_has_the_whole_run_in_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    run = training(root)
    run.losses(1, {"d_loss": 1.0})
    assert not sent(root)  # down at the start
    with server(root, port):
        run.losses(2, {"d_loss": 2.0})
        assert sent(root)
    run.losses(3, {"d_loss": 3.0})
    run.grid(3, np.zeros((8, 8, 3), np.uint8))
    assert not sent(root)  # down in the middle
    run.end("FINISHED")
    assert len(spool_of(root)) == 3
    with server(root, port):
        assert sent(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(1, 1.0), (2, 2.0), (3, 3.0)] and found.info.status == "FINISHED"
    assert len(spool_of(root)) == 0


def test_a_dead_server_costs_one_warning_and_what_was_told_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter22@127.0.0.1:9")  # the discard port: nothing listens
    with sending(tmp_path) as spool:
        run = Run(spool, {FINGERPRINT: "f1"})
        run.open("name", PARAMS, {})
        run.losses(1, {"d_loss": 1.0})
    err = capfd.readouterr().err
    assert err.count("WARNING") == 1 and "python -m dcgan sync" in err and "hunter22" not in err
    assert len(spool) == 2 and not (tmp_path / "mlflow.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sent(tmp_path) and len(spool) == 2 and not (tmp_path / "mlflow.db").exists()  # it is for another store


def test_one_warning_is_enough_however_often_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(sender, "_RETRY", 0.0)
    training(tmp_path)
    ended, tried = threading.Event(), 0

    def connect(root: Path) -> store.Store:
        nonlocal tried
        tried += 1
        if tried == 3:
            ended.set()
        return store.Store(root)

    monkeypatch.setattr(sender, "Store", connect)
    assert not sender.send_until(ended, spool_of(tmp_path), tmp_path)
    assert tried == 4 and len([r for r in caplog.records if "Cannot reach MLflow" in r.message]) == 1
    assert len(spool_of(tmp_path)) == 1


@pytest.mark.long
def test_a_locked_database_is_waited_for(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(root)
    assert sent(root)
    run = training(root)
    run.losses(30, {"d_loss": 0.25})
    lock = sqlite3.connect(root / "mlflow.db")
    lock.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING):
        assert not sent(root)
    lock.close()
    assert len([record for record in caplog.records if "Cannot reach MLflow" in record.message]) == 1
    assert sent(root)
    assert curve(client_of(root), runs(client_of(root))[0])[-1] == (30, 0.25)


def test_where_tracking_is_off_nothing_is_told_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCGAN_TRACKING", "0")
    with sending(tmp_path) as spool:
        Run(spool, {FINGERPRINT: "f1"}).open("name", PARAMS, {})
    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_lost_can_be_told_again(tmp_path: Path, root: Path) -> None:
    spool = spool_of(root)
    spool.folder.parent.mkdir()
    spool.folder.write_text("in the way")
    run = training(root)
    run.losses(1, {"d_loss": 1.0})
    assert run.lost
    spool.folder.unlink()
    run.losses(2, {"d_loss": 2.0})
    run.reopen()
    run.points([(1, {"d_loss": 1.0}), (2, {"d_loss": 2.0})])
    assert sent(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(1, 1.0), (2, 2.0)] and found.data.params["lr"] == "0.1"


def test_a_disk_that_takes_no_spool_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / SPOOL).write_text("in the way")
    run = Run(spool_of(tmp_path), {FINGERPRINT: "f1"})
    for step in range(3):
        run.losses(step, {"d_loss": 1.0})
    assert len([record for record in caplog.records if "Cannot write what is to be logged" in record.message]) == 1


def test_what_mlflow_refuses_does_not_stop_what_comes_after_it(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = training(root)
    run.points([(1, {"a name with \n in it": 1.0})])
    Run(spool_of(root), {FINGERPRINT: "unknown"}).losses(1, {"d_loss": 1.0})
    run.text("after.txt", "after")
    run.losses(2, {"d_loss": 2.0})
    assert sent(root) and len(spool_of(root)) == 0
    assert "was it deleted" in caplog.text
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(2, 2.0)]


def test_what_can_never_be_told_does_not_stop_what_comes_after_it(
    root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As events of another version of the code, and files that a crash of the machine has damaged."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"")
    run, spool = training(root), spool_of(root)
    run.grids([broken], 1)
    run.model(broken)
    for number, event in enumerate(({"kind": "unknown"}, {"kind": "points"}, {"kind": "open"}), 1):
        run.losses(number, {"d_loss": 1.0})
        spool.append({"run": {FINGERPRINT: "f1"}, "time": 1, **event})
    run.losses(4, {"d_loss": 1.0})
    assert sent(root) and len(spool) == 0
    assert [word in caplog.text for word in ("a damaged picture", "model", "unknown", "points", "open")] == [True] * 5
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(step, 1.0) for step in (1, 2, 3, 4)]


def test_a_half_logged_model_goes_and_is_in_nobodys_way_who_may_not_delete_it(
    root: Path, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("no", PERMISSION_DENIED)

    run, client = training(root), client_of(root)
    assert sent(root)
    (found,) = runs(client)
    half = client.create_logged_model(found.info.experiment_id, "generator", found.info.run_id)
    with monkeypatch.context() as denied:
        denied.setattr(MlflowClient, "delete_logged_model", refuse)
        run.model(generator)
        assert sent(root) and len(spool_of(root)) == 0
    names = ["generator", "generator_program"]
    models = client.search_logged_models([found.info.experiment_id])
    assert sorted(model.name for model in models if model.model_id != half.model_id) == names
    run.model(generator)
    assert sent(root)
    assert sorted(model.name for model in client.search_logged_models([found.info.experiment_id])) == names


def test_what_a_store_of_files_cannot_take_now_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable(Exception):
        """As boto3's, which are no errors of Python's."""

    def refuse(*_: object) -> None:
        raise Unreachable

    training(root).text("patch", "kept")
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_artifact", refuse)
        assert not sent(root) and len(spool_of(root)) == 1
    assert sent(root) and len(spool_of(root)) == 0


def test_stores_that_differ_in_more_than_the_login_have_spools_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(address: str) -> Path:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        return spool_of(tmp_path).folder

    addresses = ["http://a", "http://b", "postgresql://u@/mlflow?host=/a", "postgresql://u@/mlflow?host=/b", "file:a@b"]
    assert len({folder(address) for address in addresses}) == len(addresses)
    assert folder("http://me:hunter22@host:80/x") == folder("http://you:hunter23@host:80/x")


def test_an_experiment_that_was_deleted_is_restored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(root)
    assert sent(root)
    client_of(root).delete_experiment(runs(client_of(root))[0].info.experiment_id)
    _, experiment = store.connect(root)  # to ask restores nothing
    assert client_of(root).get_experiment(experiment).lifecycle_stage == "deleted"
    train(root, "f2", "sha2")
    assert sent(root) and len(spool_of(root)) == 0 and "is restored" in caplog.text
    assert len(runs(client_of(root))) == 2


def test_an_experiment_that_another_has_made_keeps_its_place(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    client_of(root).create_experiment(store.EXPERIMENT, place.as_uri())
    for name in ("first", "second"):
        training(root).text(name, "text")
        (root / "mlartifacts").mkdir(exist_ok=True)
        assert sent(root)
    assert {path.name for path in place.rglob("*") if path.is_file()} == {"first", "second"}


def test_in_a_project_that_was_moved_events_wait_until_the_files_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    training(old).text("before.txt", "before")
    assert sent(old) and not caplog.records
    old.rename(new)
    training(new).text("after.txt", "after")
    for _ in range(2):
        assert not sent(new) and not old.exists()
        assert f"were in {old / 'mlartifacts'}, which is gone; make it a link to {new / 'mlartifacts'}" in caplog.text
        caplog.clear()
    old.mkdir()
    (old / "mlartifacts").symlink_to(new / "mlartifacts")
    assert sent(new) and len(spool_of(new)) == 0
    (found,) = runs(client_of(new))
    assert {item.path for item in client_of(new).list_artifacts(found.info.run_id)} == {"before.txt", "after.txt"}


def test_to_ask_the_own_store_names_it_to_nobody_else(root: Path) -> None:
    store.connect(root)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_processes_that_meet_an_empty_store_do_not_break_each_other(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dcgan.tracking.events import Run, sending\n"
        "with sending(pathlib.Path(sys.argv[1])) as spool:\n"
        "    run = Run(spool, {'fingerprint': sys.argv[2]})\n"
        "    run.open(sys.argv[2], {}, {})\n"
        "    run.losses(1, {'d_loss': 1.0})\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0 and "WARNING" not in errors, errors
    assert sorted(run.info.run_name for run in runs(client_of(tmp_path))) == ["a", "b", "c"]
