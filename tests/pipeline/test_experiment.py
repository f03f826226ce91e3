"""`dvc exp run` in a copy of the project, where the calls are missing that Linux alone has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from pictures import drawn, encoded
from project import Project, other_system, ran, runs

from dcgan.data.index import split_by_name, take
from dcgan.system.metadata import read_metadata
from dcgan.tracking.metric_groups import plain_names
from dcgan.tracking.reproduce import runs_of


@pytest.fixture(scope="module")
def experiment(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy after an experiment with another learning rate that keeps its best generator."""
    project = reproduced.copied_to(tmp_path_factory.mktemp("experiment") / "dcgan").warm()
    changes = ("-S", "lr=1e-5", "-S", "distance_kimg=0.016", "-S", "keep=best")
    result = project.run("dvc", "exp", "run", *changes, PYTHONPATH=other_system(project.env["PYTHONPATH"]))
    assert result.returncode == 0 and "Cannot " not in result.stdout, result.stdout
    assert ran(result.stdout) == ["train", "sample", "attributes", "evaluate", "report"]
    return project


def test_an_experiment_stands_beside_the_first_run(experiment: Project) -> None:
    first, second = runs(experiment)
    assert first.data.params["lr"] == "0.001" and float(second.data.params["lr"]) == 1e-5
    assert second.data.tags["dvc_experiment"] == second.info.run_name


def test_its_run_is_complete_without_the_calls_of_linux(experiment: Project) -> None:
    ordinary, elsewhere = (run.data.tags for run in runs(experiment))
    assert set(ordinary) <= set(elsewhere) and elsewhere["git_dirty"] == "true"
    assert elsewhere["processor"] and elsewhere["cores"] == ordinary["cores"]
    runtime = json.loads(experiment.read("reports/runtime.json"))["train"]
    assert 100 < runtime["peak_memory_mb"] < 100_000


def test_the_best_generator_is_kept_when_asked(experiment: Project) -> None:
    table = pd.read_csv(experiment.folder / "reports" / "losses.csv")
    best = table["step"][table["quick_frechet_distance"].argmin()]
    about = read_metadata(experiment.folder / "models" / "generator.safetensors")
    assert about["keep"] == "best" and about["step"] == best and table["quick_frechet_distance"].notna().all()
    run = runs(experiment)[1]
    curve = mlflow.MlflowClient().get_metric_history(run.info.run_id, "distance/quick_frechet_distance")
    assert [point.step for point in curve] == table["step"].tolist()


def test_another_evaluation_trains_nothing_and_the_way_back_computes_nothing(experiment: Project) -> None:
    second = runs(experiment)[1]
    result = experiment.run("dvc", "exp", "run", "-S", "fid_samples=24", "-S", "fid_split=valid")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == ["evaluate", "report"]
    third = runs(experiment)[2]
    assert third.data.tags["trained_in"] == second.info.run_id and third.data.params["fid_samples"] == "24"
    # Recipes can be chosen on one split, and reported on another.
    metrics, found = json.loads(experiment.read("reports/metrics.json")), plain_names(third.data.metrics)
    assert third.data.params["fid_split"] == metrics["reference_split"] == "valid" and metrics["reference_count"] == 6
    assert metrics["floor_split"] == "train" and metrics["floor_count"] == 24 and metrics["scores_count"] == 6
    assert found["sample_precision_floor"] == metrics["sample_precision_floor"] and found["frechet_distance_floor"]
    assert found["scores_count"] == 6 and found["floor_count"] == 24
    assert third.info.run_name == third.data.tags["dvc_experiment"] and "restored" not in third.data.tags
    for run in (second, third):
        assert [found.info.run_id for found in runs_of(experiment.folder, run.info.run_name)] == [run.info.run_id]
    # The first results come from DVC's cache, without running anything or adding a run.
    experiment.run("git", "checkout", "-q", ".", check=True)
    assert ran(experiment.run("dvc", "repro").stdout) == [] and len(runs(experiment)) == 3


def test_a_changed_folder_is_cropped_anew_and_harms_no_other_data_set(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan").warm()
    own = project.folder / "data" / "folder"
    for i in range(40):
        (own / f"{i}.png").write_bytes(encoded(drawn("RGB", 50, 40, i)))
    # Another data set looks at the list alone, which is empty for it.
    assert set(ran(project.run("dvc", "repro", "crop").stdout)) <= {"inventory"}

    project.set(("dataset", "folder"))
    result = project.run("dvc", "repro", "crop")
    assert ran(result.stdout) == ["inventory", "download", "crop"], result.stdout
    card = json.loads(project.read("reports/data.json"))
    assert sum(card["faces"].values()) == 40 and card["source"]["name"] == "the pictures in data/folder"
    assert ran(project.run("dvc", "repro", "crop").stdout) == []

    before = project.read("data/faces/faces.npy")
    name = pd.read_parquet(project.folder / "data" / "faces" / "faces.parquet")["file"][0]
    (own / name).write_bytes(encoded(drawn("RGB", 50, 40, 99)))
    assert ran(project.run("dvc", "repro", "crop").stdout) == ["inventory", "download", "crop"]
    assert project.read("data/faces/faces.npy") != before

    # Without pictures, the folder that is asked for is named, and the other data set is as it was.
    for path in own.glob("*.png"):
        path.unlink()
    result = project.run("dvc", "repro", "crop")
    assert result.returncode != 0 and "dataset: folder needs pictures in data/folder" in result.stdout
    project.set(("dataset", "avatars"))
    result = project.run("dvc", "repro")
    assert result.returncode == 0 and set(ran(result.stdout)) <= {"inventory"}, result.stdout


@pytest.mark.long
def test_three_pictures_of_which_none_is_for_training(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan").warm()
    others = [i for i in range(100) if split_by_name([f"{i}.png"]) != ["train"]]
    for i in others[:3]:
        (project.folder / "data" / "folder" / f"{i}.png").write_bytes(encoded(drawn("RGB", 50, 40, i)))
    project.set(("dataset", "folder"), ("dataset_size", ""), ("epochs", "1"), ("batch_size", "2"), ("fid_samples", "8"))
    result = project.run("dvc", "repro")
    assert result.returncode != 0 and ran(result.stdout)[-2:] == ["crop", "train"]
    assert "train_split: train has 0 of the 3 pictures (train 0, valid 3, test 0)" in result.stdout
    assert "set train_split: all.\n" in result.stdout and "Traceback" not in result.stdout

    project.set(("train_split", "all"))
    result = project.run("dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert "WARNING: left out: the distance" in result.stdout
    metrics = json.loads(project.read("reports/metrics.json"))
    assert not [key for key, value in metrics.items() if isinstance(value, float)]
    assert b"No distance was measured" in project.read("reports/report.html")


@pytest.mark.long
def test_a_folder_wherever_it_is_goes_along_and_what_changes_in_it_is_noticed(
    reproduced: Project, tmp_path: Path
) -> None:
    project, own = reproduced.copied_to(tmp_path / "dcgan").warm(), tmp_path / "own"
    own.mkdir()
    for i in range(40):
        (own / f"{i}.png").write_bytes(encoded(drawn("RGB", 50, 40, i)))
    (own / "notes.txt").write_text("no picture")
    dcgan = sys.executable, "-m", "dcgan"
    told = project.run(*dcgan, "data", "link", str(own), check=True).stdout
    assert "40 pictures in 41 files" in told and "passed over: 1 (.txt)" in told
    before = {path: path.stat().st_mtime_ns for path in (own, *own.iterdir())}

    # The uncommitted link comes along into the copy of the project.
    result = project.run("dvc", "exp", "run", "--temp", "crop", "-S", "dataset=folder", "-S", "dataset_size=39")
    assert ran(result.stdout) == ["inventory", "download", "crop"], result.stdout
    assert "dataset_size: 39 of 40 pictures taken; passed over: 1 (it is not a picture" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (own, *own.iterdir())} == before
    name = take(pd.DataFrame({"file": [f"{i}.png" for i in range(40)]}), 39)["file"][0]
    (own / name).write_bytes(encoded(drawn("RGB", 50, 40, 99)))
    project.set(("dataset", "folder"))
    result = project.run(*dcgan, "check")
    assert result.returncode == 1 and f"(1 file modified: {name}); restore its files, or" in result.stdout
    # DVC has the list and the index in its cache, and the crop reads the pictures.
    project.set(("dataset_size", "39"), ("crop_size", "20"), ("max_bad_fraction", "0"))
    result = project.run("dvc", "repro", "crop")
    assert ran(result.stdout) == ["crop"] and result.returncode != 0
    assert f"{name}: it has changed since the folder was linked; run `dcgan data link`" in result.stdout
