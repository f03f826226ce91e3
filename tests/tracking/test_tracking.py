"""MLflow: one run for each combination, found again by the generator's hash, and never in the way."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as Found
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from PIL import Image
from project import ROOT
from servers import free_port, mlflow_server
from warm import warm

from dcgan import networks
from dcgan.networks import Generator, Settings
from dcgan.system.errors import Interrupted
from dcgan.system.files import sha256
from dcgan.tracking import connection, registry, sender, store
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import (
    DESCRIPTION,
    EVALUATION,
    FINGERPRINT,
    GENERATOR_SHA256,
    LOAD,
    METRICS,
    Description,
    append,
    line,
    spool_of,
    waiting,
)
from dcgan.tracking.sender import send, sending

SMALL = Settings(image_size=32, nz=8, ngf=4, ndf=4)
PARAMS = {"lr": "0.1", "crop_size": ""}


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


def waits(root: Path) -> int:
    """The runs that are not sent completely."""
    return len(waiting(spool_of(root)))


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def runs(client: MlflowClient) -> list[Found]:
    experiment = client.get_experiment_by_name(connection.EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], order_by=["start_time"])) if experiment else []


def training(root: Path, fingerprint: str = "f1") -> Run:
    about = Description({FINGERPRINT: fingerprint}, "name", PARAMS, opened_with={"device": "cpu"})
    return Run(spool_of(root), about)


def of_generator(root: Path, sha: str = "sha1") -> Run:
    return Run(spool_of(root), Description({GENERATOR_SHA256: sha}, "restored", PARAMS))


def registered(distance: float, samples: str, card: str = "card") -> dict[str, Any]:
    about = {"name": "dcgan-avatars", "metric": "frechet_distance", "distance": distance}
    return about | {"protocol": {"samples": samples}, "card": card}


def train(root: Path, fingerprint: str = "f1", sha: str = "sha1") -> None:
    with training(root, fingerprint).open() as run:
        run.metrics(10, {"d_loss": 1.0})
        run.metrics(20, {"d_loss": 0.5})
        run.grid(20, np.zeros((8, 8, 3), np.uint8))
        run.describe(tags={GENERATOR_SHA256: sha})


def evaluate(root: Path, identity: str, samples: int, sha: str = "sha1") -> None:
    known_by = {GENERATOR_SHA256: sha, EVALUATION: identity}
    with Run(spool_of(root), Description(known_by, "evaluated", PARAMS, {"fid_samples": str(samples)})).open() as run:
        run.metrics(0, {"frechet_distance": float(samples)})


def curve(client: MlflowClient, run: Found, name: str = "loss/d_loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


# Runs.


def test_a_training_is_one_run_with_curves_and_pictures(root: Path) -> None:
    train(root)
    assert send(root)
    (run,) = runs(client_of(root))
    assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1", "crop_size": ""}
    assert run.data.tags["device"] == "cpu" and run.data.tags[GENERATOR_SHA256] == "sha1"
    assert curve(client_of(root), run) == [(10, 1.0), (20, 0.5)]
    assert run.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert len(client_of(root).list_artifacts(run.info.run_id, "images")) == 2  # an enlarged one is kept beside it


def test_what_is_told_again_counts_once(root: Path, generator: Path) -> None:
    for _ in range(2):
        train(root)
        with of_generator(root).open() as run:
            run.model(generator)
            run.describe(dataset={"name": "avatars", "digest": "digest", "source": "{}", "profile": "{}"})
        assert send(root) and waits(root) == 0
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(10, 1.0), (20, 0.5)]
    assert len(client_of(root).list_artifacts(found.info.run_id, "images")) == 2
    models = client_of(root).search_logged_models([found.info.experiment_id])
    assert sorted(model.name for model in models) == ["generator", "generator_program"]
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("avatars", "digest")


def test_a_training_that_was_interrupted_goes_on_in_its_run(root: Path) -> None:
    with pytest.raises(Interrupted), training(root).open() as run:
        run.metrics(10, {"d_loss": 1.0})
        raise Interrupted(15)
    assert send(root)
    assert [run.info.status for run in runs(client_of(root))] == ["KILLED"]
    with training(root).open():
        assert send(root)
        assert [run.info.status for run in runs(client_of(root))] == ["RUNNING"]
    train(root)
    assert send(root)
    (found,) = runs(client_of(root))
    assert found.info.status == "FINISHED" and curve(client_of(root), found) == [(10, 1.0), (20, 0.5)]


def test_a_training_that_was_killed_is_told_to_be_so(root: Path) -> None:
    """By its sender, whose standard error ends when all is told."""
    code = (
        "import os, sys, pathlib; from dcgan.tracking.run import Run; from dcgan.tracking.sender import sending\n"
        "from dcgan.tracking.run_folder import Description, spool_of\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "run = Run(spool_of(root), Description({'fingerprint': 'f1'}, 'name', {}))\n"
        "with sending(root, run.folder), run.open():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL and killed.stderr == ""
    assert [run.info.status for run in runs(client_of(root))] == ["KILLED"] and waits(root) == 0


def test_a_training_that_failed_is_told_to_be_so(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), training(root).open():
        raise ZeroDivisionError
    assert send(root)
    assert [run.info.status for run in runs(client_of(root))] == ["FAILED"]


def test_what_fails_after_the_result_does_not_undo_it(root: Path) -> None:
    with pytest.raises(OSError, match="full"), training(root).open() as run:
        run.describe(tags={GENERATOR_SHA256: "sha1"})
        raise OSError("the disk is full")
    assert send(root)
    assert [run.info.status for run in runs(client_of(root))] == ["FINISHED"]


def test_another_training_is_another_run(root: Path) -> None:
    train(root, "f1", "sha1")
    train(root, "f2", "sha2")
    assert send(root) and len(runs(client_of(root))) == 2


def test_the_first_evaluation_joins_the_training_and_others_stand_beside_it(root: Path) -> None:
    train(root)
    for identity, samples in (("e1", 100), ("e1", 100), ("e2", 200), ("e2", 200)):
        evaluate(root, identity, samples)
    assert send(root)
    first, second = runs(client_of(root))
    assert first.data.params["fid_samples"] == "100" and first.data.metrics["distance/frechet_distance"] == 100
    assert second.data.params == {"lr": "0.1", "crop_size": "", "fid_samples": "200"}
    assert second.data.tags["trained_in"] == first.info.run_id and second.info.status == "FINISHED"


CURVES = {2: {"d_loss": 0.5}, 4: {"d_loss": 0.25, "penalty": 0.125}}


def test_a_generator_that_the_store_has_never_seen_gets_a_run_marked_restored(root: Path, tmp_path: Path) -> None:
    grid = tmp_path / "epoch_00001.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(grid)
    for _ in range(2):
        with of_generator(root).open() as run:
            run.describe(restored=CURVES)
            run.grid(0, grid)
            run.grid(4, grid)
    evaluate(root, "e1", 100)
    assert send(root)
    (found,) = runs(client_of(root))
    assert found.data.tags["restored"] == "true" and found.data.params["lr"] == "0.1"
    assert found.info.status == "FINISHED"
    names = [Path(item.path).name for item in client_of(root).list_artifacts(found.info.run_id, "images")]
    assert sorted({int(name.split("+")[2]) for name in names}) == [0, 4] and len(names) == 4  # a small one beside each
    assert curve(client_of(root), found) == [(2, 0.5), (4, 0.25)]
    assert curve(client_of(root), found, "loss/penalty") == [(4, 0.125)]
    assert found.data.metrics["distance/frechet_distance"] == 100


def test_a_training_that_the_store_has_seen_takes_no_coarser_curves(root: Path) -> None:
    train(root)
    with of_generator(root).open() as run:
        run.describe(restored=CURVES)
    assert send(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(10, 1.0), (20, 0.5)] and "loss/penalty" not in found.data.metrics


def test_files_and_texts_go_to_the_run_under_their_names(root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "samples.png"
    picture.write_bytes(b"picture")
    for patch, digests in ((b"of one that was killed", "()"), (b"as it was", "[]"), (b"as it became", "{}")):
        about = Description({FINGERPRINT: "f1"}, "name", PARAMS)
        with Run(spool_of(root), about, {"lineage/uncommitted.patch": patch}).open() as run:
            run.artifact(picture.name, picture)
            run.artifact("lineage/digests.json", digests)
            if digests != "()":
                run.describe(tags={GENERATOR_SHA256: "sha1"})
            assert send(root)
    (found,) = runs(client_of(root))
    folder = Path(client_of(root).download_artifacts(found.info.run_id, ""))
    assert (folder / "samples.png").read_bytes() == b"picture" and (folder / "lineage/digests.json").read_text() == "{}"
    assert (folder / "lineage/uncommitted.patch").read_text() == "as it was"


def test_two_trainings_of_the_same_bytes_each_have_their_results(root: Path) -> None:
    train(root, "f1", "sha1")
    evaluate(root, "e1", 100)
    train(root, "f2", "sha1")
    evaluate(root, "e1", 100)
    assert send(root)
    first, second = runs(client_of(root))
    assert first.data.metrics["distance/frechet_distance"] == second.data.metrics["distance/frechet_distance"] == 100
    evaluate(root, "e2", 200)
    assert send(root)
    assert runs(client_of(root))[2].data.tags["trained_in"] == second.info.run_id


def test_a_point_that_is_told_twice_in_a_row_counts_once(root: Path) -> None:
    with training(root).open() as run:
        for _ in range(2):
            run.metrics(5, {"quick_frechet_distance": 7.0})
    assert send(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found, "distance/quick_frechet_distance") == [(5, 7.0)]


def test_senders_that_follow_each_other_tell_a_point_once(root: Path) -> None:
    """Each begins anew, while the run goes on; the load, whose steps are seconds of a process, is told by its time."""
    with training(root).open() as run:
        assert run.folder
        for step in (10, 20, 20, 10, 30):
            run.metrics(step, {"d_loss": 1.0})
            run.grid(step, np.zeros((8, 8, 3), np.uint8))
            append(run.folder / LOAD, [line(1, {"system/cpu": float(step)})])
            assert send(root)
            time.sleep(0.002)  # or two lines of the load would be of one millisecond
    assert send(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(10, 1.0), (20, 1.0), (30, 1.0)]
    assert len(client_of(root).list_artifacts(found.info.run_id, "images")) == 6  # an enlarged one beside each
    assert sorted(curve(client_of(root), found, "system/cpu")) == [(1, float(step)) for step in (10, 10, 20, 20, 30)]


def test_one_sender_sends_for_another_that_waits_for_it(root: Path) -> None:
    """And the second ends as soon as its own run is sent."""
    ended = threading.Event()
    first = threading.Thread(target=send, args=(root, ended))
    first.start()
    with training(root, "f1").open() as goes_on:
        goes_on.metrics(1, {"d_loss": 1.0})
        while not runs(client_of(root)):
            assert first.is_alive()
        train(root, "f2", "sha2")
        assert send(root) and waits(root) == 1 and first.is_alive()
        assert [run.info.status for run in runs(client_of(root))] == ["RUNNING", "FINISHED"]
    ended.set()
    first.join()
    assert waits(root) == 0 and [run.info.status for run in runs(client_of(root))] == ["FINISHED"] * 2


# Models.


def test_the_exported_program_takes_any_number_of_latents_and_no_model_is_a_pickle(root: Path, generator: Path) -> None:
    with training(root).open() as run:
        run.model(generator)
    assert send(root)
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
        with training(root, name).open() as run:
            run.model(path)
            run.describe(tags={GENERATOR_SHA256: sha})
            run.describe(registered=registered(distance, protocol, f"card of {name}"))
        assert send(root)

    def champion() -> str:
        return shas[
            client_of(root).get_model_version_by_alias("dcgan-avatars", registry.CHAMPION).tags[GENERATOR_SHA256]
        ]

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
    assert sorted(shas[version.tags[GENERATOR_SHA256]] for version in versions) == [
        "bad",
        "best",
        "equal",
        "good",
        "other",
    ]
    assert {version.description for version in versions} >= {"card of best"}
    # The champion that somebody chose makes its protocol count.
    other = next(version for version in versions if shas[version.tags[GENERATOR_SHA256]] == "other")
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


@pytest.mark.long
def test_a_server_that_is_killed_and_started_again_has_the_whole_run_in_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with training(root).open() as run:
        run.metrics(1, {"d_loss": 1.0})
        assert not send(root)  # down at the start
        with mlflow_server(root, port):
            run.metrics(2, {"d_loss": 2.0})
            assert send(root)
        run.metrics(3, {"d_loss": 3.0})
        run.grid(3, np.zeros((8, 8, 3), np.uint8))
        assert not send(root)  # down in the middle
    assert not send(root) and waits(root) == 1  # and at the end
    with mlflow_server(root, port):
        assert send(root)
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(1, 1.0), (2, 2.0), (3, 3.0)] and found.info.status == "FINISHED"
    assert waits(root) == 0


def test_a_dead_server_costs_one_warning_and_what_was_told_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter22@127.0.0.1:9")  # the discard port: nothing listens
    with sending(tmp_path), training(tmp_path).open() as run:
        run.metrics(1, {"d_loss": 1.0})
    err = capfd.readouterr().err
    assert err.count("WARNING") == 1 and "`dcgan sync`" in err and "hunter22" not in err
    assert waits(tmp_path) == 1 and not (tmp_path / "mlflow.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert send(tmp_path) and not (tmp_path / "mlflow.db").exists()  # it is for another store


def test_one_warning_is_enough_however_often_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(sender, "_RETRY", 0.0)
    ended, tried = threading.Event(), 0

    def connect(root: Path) -> store.Store:
        nonlocal tried
        tried += 1
        if tried == 3:
            ended.set()
        return store.Store(root)

    monkeypatch.setattr(sender, "_store", connect)
    with training(tmp_path).open():
        assert not send(tmp_path, ended)
    assert tried == 4 and len([r for r in caplog.records if "Cannot reach MLflow" in r.message]) == 1
    assert waits(tmp_path) == 1


# Kills itself at the n-th statement or file, or says how many there were.
DYING_SENDER = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

moment, done = int(sys.argv.pop(1)), 0

def count(*_):
    global done
    done += 1
    if done == moment:
        os.kill(os.getpid(), signal.SIGKILL)

for name in ("before_cursor_execute", "commit"):
    event.listen(Engine, name, count)
files = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.copyfile")
sys.addaudithook(lambda name, _: count() if name in files else None)
from dcgan.tracking import sender
sender.main()
print(done)
"""


@pytest.mark.long
@pytest.mark.parametrize(("kills", "models"), [(16, ()), (4, ("generator", "generator_program"))])
def test_a_sender_that_is_killed_at_twenty_moments_doubles_and_loses_nothing(
    root: Path, generator: Path, tmp_path_factory: pytest.TempPathFactory, kills: int, models: tuple[str, ...]
) -> None:
    with training(root).open() as run:
        assert run.folder
        for step in (1, 2, 3):
            run.metrics(step, {"d_loss": 1.0 / step, "g_loss": 1.0})
            run.grid(step, np.zeros((8, 8, 3), np.uint8))
            append(run.folder / LOAD, [line(step, {"system/cpu": 1.0})])
        run.artifact("lineage/digests.json", "{}")
        if models:  # which takes seconds each time that it is interrupted
            run.model(generator)
        run.describe(tags={GENERATOR_SHA256: sha256(generator)}, registered=registered(1.0, "32"))
    script = tmp_path_factory.mktemp("dying") / "sender.py"
    script.write_text(DYING_SENDER)
    environment = warm({key: value for key, value in os.environ.items() if key != "PYTHONPATH"})
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), environment.get("PYTHONPATH")]))

    def sent(folder: Path, moment: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(moment), str(folder)]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def check(folder: Path) -> None:
        (found,) = runs(client_of(folder))
        for name, values in (("loss/d_loss", [1.0, 0.5, 1 / 3]), ("loss/g_loss", [1.0] * 3), ("system/cpu", [1.0] * 3)):
            assert curve(client_of(folder), found, name) == list(enumerate(values, 1))
        images = client_of(folder).list_artifacts(found.info.run_id, "images")
        assert sorted(int(Path(item.path).name.split("+")[2]) for item in images) == [1, 1, 2, 2, 3, 3]
        logged = client_of(folder).search_logged_models([found.info.experiment_id])
        assert sorted(model.name for model in logged) == list(models)
        assert len(client_of(folder).search_model_versions("name = 'dcgan-avatars'")) == bool(models)
        assert found.info.status == "FINISHED" and waits(folder) == 0

    def fresh() -> Path:
        return Path(shutil.copytree(root, tmp_path_factory.mktemp("killed") / "project"))

    folder = fresh()
    undisturbed = sent(folder, 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    check(folder)
    total, folder, killed = int(undisturbed.stdout), fresh(), 0
    while killed < kills:  # each goes on where the last was killed, until one comes to the end
        if sent(folder, total * (killed + 1) // (kills + 1)).returncode == 0:
            check(folder)
            folder = fresh()
        else:
            killed += 1
    assert sent(folder, 0).returncode == 0
    check(folder)


@pytest.mark.long
def test_a_locked_database_is_waited_for(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(root)
    assert send(root)
    with training(root).open() as run:
        run.metrics(30, {"d_loss": 0.25})
    lock = sqlite3.connect(root / "mlflow.db")
    lock.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING):
        assert not send(root)
    lock.close()
    assert len([record for record in caplog.records if "Cannot reach MLflow" in record.message]) == 1
    assert send(root)
    assert curve(client_of(root), runs(client_of(root))[0])[-1] == (30, 0.25)


def test_where_tracking_is_off_nothing_is_told_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCGAN_TRACKING", "0")
    with sending(tmp_path), Run(None, Description({FINGERPRINT: "f1"}, "name", PARAMS)).open() as run:
        run.metrics(1, {"d_loss": 1.0})
        run.artifact("a file", "text")
    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_did_not_take_is_written_later(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start, and in the middle of a line."""
    spool = spool_of(root)
    spool.parent.write_text("in the way")
    with training(root).open() as run:
        run.metrics(1, {"d_loss": 1.0})
        spool.parent.unlink()
        run.metrics(2, {"d_loss": 2.0})
        assert run.folder and len(caplog.records) == 1 and "Cannot write the data to be logged" in caplog.text
        lines = run.folder / METRICS
        lines.rename(run.folder / "aside")
        lines.mkdir()
        run.metrics(3, {"d_loss": 3.0})
        lines.rmdir()
        (run.folder / "aside").rename(lines)
        with lines.open("a") as file:
            file.write('{"time": 1, "st')
        run.metrics(4, {"d_loss": 4.0})
    assert send(root) and len(caplog.records) == 1
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(step, float(step)) for step in (1, 2, 3, 4)]
    assert found.data.params["lr"] == "0.1" and found.info.status == "FINISHED"


def test_what_mlflow_refuses_does_not_stop_what_comes_after_it(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with training(root).open() as run:
        run.metrics(1, {"a name with \n in it": 1.0, "d_loss": 1.0})
        run.artifact("after.txt", "after")
        run.metrics(2, {"d_loss": 2.0})
    assert send(root) and waits(root) == 0
    assert len(caplog.records) == 1 and "a name with" in caplog.text
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(1, 1.0), (2, 2.0)]
    assert [item.path for item in client_of(root).list_artifacts(found.info.run_id)] == ["after.txt"]


def test_a_run_that_is_deleted_while_it_goes_on_costs_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    sender_ = threading.Thread(target=send, args=(root, ended))
    with training(root).open() as run:
        sender_.start()
        while not runs(client_of(root)):
            assert sender_.is_alive()
        client_of(root).delete_run(runs(client_of(root))[0].info.run_id)
        run.metrics(1, {"d_loss": 1.0})
    ended.set()
    sender_.join()
    assert runs(client_of(root)) == [] and waits(root) == 0 and "must be in the 'active' state" in caplog.text


def test_what_can_never_be_told_does_not_stop_what_comes_after_it(
    root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As folders of another version of the code, and files that a crash of the machine has damaged."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"")
    for description in ("", "{}", '{"unknown": 1}', "[]"):
        with training(root).open() as damaged:
            assert damaged.folder
        (damaged.folder / DESCRIPTION).write_text(description)
    with training(root).open() as run:
        run.grid(1, broken)
        run.model(broken)
        run.metrics(4, {"d_loss": 1.0})
    assert send(root) and waits(root) == 0
    assert [word in caplog.text for word in ("the picture is damaged", "models of name", "the run in")] == [True] * 3
    (found,) = runs(client_of(root))
    assert curve(client_of(root), found) == [(4, 1.0)] and found.info.status == "FINISHED"


def test_the_sender_prints_nothing_of_what_libraries_warn_of(root: Path, generator: Path) -> None:
    """As of type hints, in colours, when a model is logged."""
    with of_generator(root).open() as run:
        run.model(generator)
    command = [sys.executable, "-m", "dcgan.tracking.sender", str(root)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "") and waits(root) == 0
    (found,) = runs(client_of(root))
    assert len(client_of(root).search_logged_models([found.info.experiment_id])) == 2


def test_a_half_logged_model_goes_and_is_in_nobodys_way_who_may_not_delete_it(
    root: Path, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("no", PERMISSION_DENIED)

    client = client_of(root)
    train(root)
    assert send(root)
    (found,) = runs(client)
    half = client.create_logged_model(found.info.experiment_id, "generator", found.info.run_id)
    with monkeypatch.context() as denied:
        denied.setattr(MlflowClient, "delete_logged_model", refuse)
        with training(root).open() as run:
            run.model(generator)
        assert send(root) and waits(root) == 0
    names = ["generator", "generator_program"]
    models = client.search_logged_models([found.info.experiment_id])
    assert sorted(model.name for model in models if model.model_id != half.model_id) == names
    with training(root).open() as run:
        run.model(generator)
    assert send(root)
    assert sorted(model.name for model in client.search_logged_models([found.info.experiment_id])) == names


def test_what_a_store_of_files_cannot_take_now_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable(Exception):
        """As boto3's, which are no errors of Python's."""

    def refuse(*_: object) -> None:
        raise Unreachable

    with training(root).open() as run:
        run.artifact("patch", "kept")
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_artifact", refuse)
        assert not send(root) and waits(root) == 1
    assert send(root) and waits(root) == 0


def test_stores_that_differ_in_more_than_the_login_have_spools_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(address: str) -> Path:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        return spool_of(tmp_path)

    addresses = ["http://a", "http://b", "postgresql://u@/mlflow?host=/a", "postgresql://u@/mlflow?host=/b", "file:a@b"]
    assert len({folder(address) for address in addresses}) == len(addresses)
    assert folder("http://me:hunter22@host:80/x") == folder("http://you:hunter23@host:80/x")


def test_an_experiment_that_was_deleted_is_restored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(root)
    assert send(root)
    client_of(root).delete_experiment(runs(client_of(root))[0].info.experiment_id)
    _, experiment = connection.connect(root)  # to ask restores nothing
    assert client_of(root).get_experiment(experiment).lifecycle_stage == "deleted"
    train(root, "f2", "sha2")
    assert send(root) and waits(root) == 0 and "is restored" in caplog.text
    assert len(runs(client_of(root))) == 2


def test_an_experiment_that_another_has_made_keeps_its_place(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    client_of(root).create_experiment(connection.EXPERIMENT, place.as_uri())
    for name in ("first", "second"):
        with training(root).open() as run:
            run.artifact(name, "text")
        (root / "mlartifacts").mkdir(exist_ok=True)
        assert send(root)
    assert {path.name for path in place.rglob("*") if path.is_file()} == {"first", "second"}


def test_in_a_project_that_was_moved_events_wait_until_the_files_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with training(old).open() as run:
        run.artifact("before.txt", "before")
    assert send(old) and not caplog.records
    old.rename(new)
    with training(new).open() as run:
        run.artifact("after.txt", "after")
    for _ in range(2):
        assert not send(new) and not old.exists()
        assert f"{old / 'mlartifacts'}, which no longer exists; make it a link to {new / 'mlartifacts'}" in caplog.text
        caplog.clear()
    old.mkdir()
    (old / "mlartifacts").symlink_to(new / "mlartifacts")
    assert send(new) and waits(new) == 0
    (found,) = runs(client_of(new))
    assert {item.path for item in client_of(new).list_artifacts(found.info.run_id)} == {"before.txt", "after.txt"}


def test_to_ask_the_own_store_names_it_to_nobody_else(root: Path) -> None:
    connection.connect(root)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_processes_that_meet_an_empty_store_do_not_break_each_other(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dcgan.tracking.run import Run; from dcgan.tracking.sender import sending\n"
        "from dcgan.tracking.run_folder import Description, spool_of\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "run = Run(spool_of(root), Description({'fingerprint': sys.argv[2]}, sys.argv[2], {}))\n"
        "with sending(root), run.open():\n"
        "    run.metrics(1, {'d_loss': 1.0})\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0 and "WARNING" not in errors, errors
    assert sorted(run.info.run_name for run in runs(client_of(tmp_path))) == ["a", "b", "c"]
