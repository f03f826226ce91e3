"""Four queued experiments, computed two at a time, compared, and one of them rebuilt in a clone that has none of it."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from project import Project, other_system, ran, runs

from dcgan.system.files import sha256
from dcgan.tracking.metric_groups import grouped

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # four trainings and evaluations, other tests beside them
WANTED = [(lr, loss) for lr in ("0.0001", "0.0004") for loss in ("bce", "hinge")]


@pytest.fixture(scope="module")
def swept(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after the sweep. Its data were there before; the tracking database was not."""
    folder = tmp_path_factory.mktemp("queue") / "dcgan"
    ignored = shutil.ignore_patterns("checkpoints", "mlflow.db", "mlartifacts", "mlspool")
    shutil.copytree(reproduced.folder, folder, ignore=ignored)
    project = Project(folder).warm()
    project.env["DCGAN_LOG_INTERVAL"] = "1"
    queued = project.run("dvc", "exp", "run", "--queue", "-S", "lr=0.0001,0.0004", "-S", "loss=bce,hinge")
    assert queued.returncode == 0, queued.stdout
    project.run("dvc", "queue", "start", "-j", "2", check=True)
    # Polls; the time limit above bounds it. git is asked, since `dvc queue status` takes a second of a processor.
    for polls in itertools.count(1):
        done = len(experiments(project)) == len(WANTED)
        if done or not polls % 30:
            table = project.run("dvc", "queue", "status").stdout
            if not any(state in table for state in ("Queued", "Running")):
                break
        time.sleep(1)
    assert table.count("Success") == len(WANTED), table + project.run("dvc", "exp", "show", "--md").stdout
    return project


def test_no_run_is_lost_and_none_doubled(swept: Project) -> None:
    found = runs(swept)
    assert sorted((run.data.params["lr"], run.data.params["loss"]) for run in found) == WANTED
    names = swept.run("dvc", "exp", "list", "--name-only").stdout.split()
    assert sorted(run.data.tags["dvc_experiment"] for run in found) == sorted(names)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert swept.run("git", "status", "--porcelain").stdout == ""


def experiments(project: Project) -> list[str]:
    """The references of DVC's experiments: refs/exps/ab/cdef.../name."""
    listed = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    return [reference for reference in listed if re.match("refs/exps/[0-9a-f]{2}/", reference)]


def committed(project: Project, experiment: str, name: str) -> str:
    """A file of the experiment's commit."""
    (reference,) = (reference for reference in experiments(project) if reference.endswith(f"/{experiment}"))
    return project.run("git", "show", f"{reference}:{name}", check=True).stdout


def test_each_run_is_complete(swept: Project) -> None:
    found, client = runs(swept), mlflow.MlflowClient()
    for run in found:
        run_id, revision = run.info.run_id, run.data.tags["dvc_experiment"]
        # What DVC has of the experiment says what its run must hold.
        table = pd.read_csv(io.StringIO(committed(swept, revision, "reports/losses.csv")))
        for column in ("d_loss", "g_loss", "d_real", "d_fake_before", "d_fake_after"):
            told = {point.step: point.value for point in client.get_metric_history(run_id, grouped(column))}
            assert told == pytest.approx(dict(zip(table["step"], table[column], strict=True)), rel=1e-5)
        metrics = json.loads(committed(swept, revision, "reports/metrics.json"))
        assert run.data.metrics["distance/frechet_distance"] == metrics["frechet_distance"]
        pictures = [Path(item.path).name.split("+") for item in client.list_artifacts(run_id, "images")]
        assert len({step for _, _, step, *_ in pictures}) == 3  # untrained, and after each of two epochs
        models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        assert sorted(model.name for model in models) == ["generator", "generator_program"]
    versions = client.search_model_versions("name='dcgan-avatars'")
    assert sorted(version.run_id for version in versions) == sorted(run.info.run_id for run in found)
    nearest = min(found, key=lambda run: run.data.metrics["distance/frechet_distance"])
    assert client.get_model_version_by_alias("dcgan-avatars", "champion").run_id == nearest.info.run_id


def test_make_exps_lists_the_columns_that_matter_the_best_run_first(swept: Project) -> None:
    here = [f"BIN={Path(sys.executable).parent}", "INSTALLED=Makefile"]  # this environment, without installing
    words = swept.run("make", "--no-print-directory", "exps", *here, COLUMNS="400").stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in words.splitlines() if " " in line.strip()]
    names = ["frechet_distance", "frechet_distance_floor", "sample_recall", "ngf", "seed", "epochs"]
    assert rows[0] == ["Experiment", *names, "batch_size", "lr", "loss", "r1_gamma"]
    shown = [(row[0], float(row[1]), row[8], row[9]) for row in rows if row[0].startswith(("├──", "└──"))]
    distances = sorted(run.data.metrics["distance/frechet_distance"] for run in runs(swept))
    assert [distance for _, distance, *_ in shown] == pytest.approx(distances, rel=1e-5)  # DVC shows five digits
    assert sorted((lr, loss) for *_, lr, loss in shown) == WANTED


@pytest.mark.parametrize("source", ["dvc", "mlflow"])
def test_they_are_compared_as_settings_of_one_seed(swept: Project, source: str) -> None:
    told = swept.run("python", "-m", "dcgan", "compare", "--source", source, "--format", "csv").stdout
    rows = [line for line in told.splitlines() if "," in line and ", " not in line]
    table = pd.read_csv(io.StringIO("\n".join(rows))).set_index(["loss", "lr"])
    for run in runs(swept):
        row = table.loc[run.data.params["loss"], float(run.data.params["lr"])]
        assert (row["seeds"], row["mean"]) == (1, run.data.metrics["distance/frechet_distance"])
    assert len(table) == len(WANTED) + (source == "dvc")  # and HEAD
    assert "No interval, which takes two seeds of different results: loss " in told and "Not co" not in told


def test_one_of_them_is_rebuilt_in_a_fresh_clone(swept: Project, tmp_path: Path) -> None:
    """All of it is computed there, in processes that start as a user's do, and comes out with the same lock."""
    run = next(run for run in runs(swept) if (run.data.params["lr"], run.data.params["loss"]) == WANTED[-1])
    clone = Project(tmp_path / "clone")
    swept.run("git", "clone", "-q", ".", str(clone.folder), check=True)
    store = f"sqlite:///{swept.folder / 'mlflow.db'}"
    words = ["reproduce", run.info.run_id, "--go", "--into", str(tmp_path / "rebuilt")]
    path = other_system(clone.env["PYTHONPATH"])  # the stages' too
    result = clone.run("python", "-m", "dcgan", *words, MLFLOW_TRACKING_URI=store, PYTHONPATH=path)
    assert result.returncode == 0, result.stdout
    assert sha256(tmp_path / "rebuilt" / "models" / "generator.safetensors") == run.data.tags["generator_sha256"]
    assert "generator.safetensors: the same bytes" in result.stdout and "the same frechet_distance" in result.stdout
    assert ran(result.stdout) == [*yaml.safe_load(clone.read("dvc.yaml"))["stages"]]
    assert (tmp_path / "rebuilt" / "dvc.lock").read_text() == committed(
        swept, run.data.tags["dvc_experiment"], "dvc.lock"
    )
    assert len(runs(swept)) == len(WANTED)
