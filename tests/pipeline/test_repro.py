"""The real tools: `dvc repro` and `dvc exp run` in a copy of the project, killed and spoilt on purpose."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from mistakes import MISTAKES
from pictures import drawn, encoded
from project import ROOT, Project, other_system, runs

from dcgan.networks import read_metadata

STAGES = ["inventory", "download", "weights", "crop", "train", "sample", "reference", "evaluate", "report"]


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project that a test may change, cache and runs included."""
    folder = tmp_path / "dcgan"
    shutil.copytree(reproduced.folder, folder)
    return Project(folder)


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def outs(project: Project) -> list[str]:
    lock = yaml.safe_load(project.read("dvc.lock"))
    return [out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])]


def test_one_command_writes_everything(reproduced: Project) -> None:
    for out in outs(reproduced):
        assert (reproduced.folder / out).exists(), out
    metrics = json.loads(reproduced.read("reports/metrics.json"))
    assert metrics["frechet_distance"] > 0 and metrics["samples"] == 32 and "fid" not in metrics
    assert len(list((reproduced.folder / "reports" / "progress").iterdir())) == 3  # untrained, and after two epochs
    assert b"<img src=" in reproduced.read("reports/report.html")


def test_git_sees_the_lock_and_the_reports_and_nothing_else(reproduced: Project) -> None:
    assert reproduced.run("git", "status", "--porcelain").stdout == ""
    changed = reproduced.run("git", "show", "--stat=200", "--format=", "HEAD").stdout.split("\n")[:-2]
    names = {line.split("|")[0].strip() for line in changed}
    assert names == {"dvc.lock", "reports/metrics.json", "reports/losses.csv"}


def test_a_second_repro_runs_nothing(reproduced: Project) -> None:
    result = reproduced.run("dvc", "repro")
    assert result.returncode == 0 and ran(result.stdout) == []
    assert "up to date" in result.stdout


def test_the_run_holds_parameters_curves_pictures_metrics_and_model(reproduced: Project) -> None:
    (run,) = runs(reproduced)
    metrics = json.loads(reproduced.read("reports/metrics.json"))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["frechet_distance"] == metrics["frechet_distance"]
    assert run.data.params["lr"] == "0.001" and run.data.params["fid_samples"] == "32"
    assert {"d_loss", "g_loss", "d_real", "d_fake_before", "d_fake_after"} <= set(run.data.metrics)
    client = mlflow.MlflowClient()
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {
        "neighbours.png",
        "samples.png",
        "real_and_generated.png",
        "interpolation.png",
        "sheet.png",
        "progress.gif",
    } <= names
    assert len(client.list_artifacts(run.info.run_id, "images")) > 0
    models = client.search_logged_models([run.info.experiment_id])
    assert sorted(model.name for model in models) == ["generator", "generator_program"]
    version = client.get_model_version_by_alias("dcgan-avatars", "champion")
    assert version.run_id == run.info.run_id and f"**{metrics['frechet_distance']:g}**" in version.description


def test_the_run_says_what_it_was_made_of(reproduced: Project) -> None:
    (run,) = runs(reproduced)
    tags = run.data.tags
    first_commit = reproduced.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    assert (tags["git_commit"], tags["git_dirty"], tags["command"]) == (first_commit, "false", "dvc repro")
    assert tags["mlflow.source.git.commit"] == first_commit and tags["processor"] and tags["torch"]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "avatars" and tags["data_sha256"].startswith(dataset.dataset.digest)
    folder = Path(mlflow.MlflowClient().download_artifacts(run.info.run_id, "lineage"))
    assert {path.name for path in folder.iterdir()} == {"digests.json", "requirements.txt"}
    assert f"mlflow=={mlflow.__version__}" in (folder / "requirements.txt").read_text().split()
    # Every digest that dvc.lock has. The folders of weights and reference are hashed by DVC at their end alone.
    told = json.loads((folder / "digests.json").read_text())
    lock = yaml.safe_load(reproduced.read("dvc.lock"))["stages"]
    for stage in set(lock) - {"weights", "reference"}:
        for side in ("deps", "outs"):
            assert told[stage][side] == {entry["path"]: entry["md5"] for entry in lock[stage].get(side, [])}, stage
    assert set(told) == set(STAGES)


def test_an_experiment_runs_what_depends_on_it_and_stands_beside_the_first(project: Project) -> None:
    result = project.run("dvc", "exp", "run", "-S", "lr=1e-5")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == ["train", "sample", "evaluate", "report"]
    first, second = runs(project)
    assert first.data.params["lr"] == "0.001" and float(second.data.params["lr"]) == 1e-5
    assert second.data.tags["dvc_experiment"] == second.info.run_name
    # An evaluation with other settings recomputes neither the training nor the reference.
    result = project.run("dvc", "exp", "run", "-S", "fid_samples=24")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == ["evaluate", "report"]
    third = runs(project)[2]
    assert third.data.tags["trained_in"] == second.info.run_id and third.data.params["fid_samples"] == "24"
    # Going back restores the first results from DVC's cache, without running anything or adding a run.
    project.run("git", "checkout", "-q", ".", check=True)
    assert ran(project.run("dvc", "repro").stdout) == [] and len(runs(project)) == 3


def test_a_result_that_no_store_has_seen_is_imported_by_sync_alone(project: Project) -> None:
    (project.folder / "mlflow.db").unlink()
    assert ran(project.run("dvc", "repro").stdout) == [] and not (project.folder / "mlflow.db").exists()
    for _ in range(2):
        result = project.run("python", "-m", "dcgan", "sync")
        assert result.returncode == 0, result.stdout
        (run,) = runs(project)
    metrics = json.loads(project.read("reports/metrics.json"))
    assert run.data.tags["restored"] == "true" and run.data.params["lr"] == "0.001"
    assert run.data.metrics["frechet_distance"] == metrics["frechet_distance"]
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(run.info.run_id, "d_loss")
    assert [point.step for point in curve] == [*pd.read_csv(project.folder / "reports/losses.csv")["step"]]
    assert len(client.list_artifacts(run.info.run_id, "images")) == 6  # 0, 1, 2 epochs, each with a small one beside it
    result = project.run("python", "-m", "dcgan", "sync", DCGAN_TRACKING="0")
    assert result.returncode == 1 and "DCGAN_TRACKING: 0 is not allowed" in result.stdout
    project.set(("lr", "0.5"))
    result = project.run("python", "-m", "dcgan", "sync")
    assert result.returncode == 1 and "not what dvc.lock says (train)" in result.stdout and len(runs(project)) == 1


@pytest.mark.long
def test_a_clone_gives_the_same_lock_and_its_own_store_the_same_distance(reproduced: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    reproduced.run("git", "clone", "-q", ".", str(clone.folder), check=True)
    (clone.folder / "dvc.lock").unlink()
    result = clone.run("dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == STAGES
    assert clone.read("dvc.lock") == reproduced.read("dvc.lock")
    (run,) = runs(clone)
    assert run.data.metrics["frechet_distance"] == json.loads(clone.read("reports/metrics.json"))["frechet_distance"]


def test_the_best_generator_is_kept_when_asked(project: Project) -> None:
    project.set(("distance_kimg", "0.016"), ("keep", "best"))
    result = project.run("dvc", "repro", "train")
    assert result.returncode == 0, result.stdout
    table = pd.read_csv(project.folder / "reports" / "losses.csv")
    best = table["step"][table["quick_frechet_distance"].argmin()]
    about = read_metadata(project.folder / "models" / "generator.safetensors")
    assert about["keep"] == "best" and about["step"] == best and table["quick_frechet_distance"].notna().all()
    run = runs(project)[1]
    curve = mlflow.MlflowClient().get_metric_history(run.info.run_id, "quick_frechet_distance")
    assert [point.step for point in curve] == table["step"].tolist()


def test_a_run_is_complete_where_linux_calls_are_missing(project: Project) -> None:
    project.set(("epochs", "1"))
    result = project.run("dvc", "repro", "train", PYTHONPATH=other_system(project.folder / "src"))
    assert result.returncode == 0 and "cannot be told" not in result.stdout, result.stdout
    ordinary, elsewhere = (run.data.tags for run in runs(project))
    differing = {"mlflow.runName", "evaluation", "mlflow.loggedModels", "mlflow.log-model.history"}
    assert set(ordinary) - differing == set(elsewhere) - differing
    assert elsewhere["processor"] and elsewhere["cores"] == ordinary["cores"] and elsewhere["git_dirty"] == "true"
    runtime = json.loads(project.read("reports/runtime.json"))["train"]
    assert 100 < runtime["peak_memory_mb"] < 100_000


@pytest.mark.long
def test_several_processes_measure_what_one_does(project: Project) -> None:
    """Also where one of several would have fewer threads than a single one, and where Linux's calls are missing."""
    del project.env["OMP_NUM_THREADS"]
    project.env["DCGAN_TRACKING"] = "0"
    names = ("data/reference/statistics.safetensors", "data/reference/train.npy", "reports/metrics.json")
    found = []
    for processes in "12":
        for stage in ("reference", "evaluate"):
            path = other_system(project.folder / "src")
            command = (sys.executable, f"pipeline/{stage}.py")
            result = project.run(*command, DCGAN_PROCESSES=processes, PYTHONPATH=path)
            assert result.returncode == 0, result.stdout
        found.append([project.read(name) for name in names])
    assert found[0] == found[1]


def test_faces_that_are_written_have_the_distance_that_was_measured(project: Project) -> None:
    """Anyone can check the number from picture files."""
    for words in (["generate", "--count", "32", "--out", "generated"], ["faces", "--split", "train", "--out", "real"]):
        project.run(sys.executable, "-m", "dcgan", *words, check=True)
    command = ["-m", "dcgan", "distance", "real", "generated", "--network", "efficientnet_lite0"]
    found = re.search(r"frechet_distance: ([\d.]+)", project.run(sys.executable, *command, check=True).stdout)
    assert found
    metrics = json.loads(project.read("reports/metrics.json"))
    assert float(found[1]) == pytest.approx(metrics["frechet_distance"], rel=1e-5)


def test_a_changed_folder_is_cropped_anew_and_harms_no_other_data_set(project: Project) -> None:
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

    before = project.read("data/faces/train.npy")
    name = pd.read_parquet(project.folder / "data" / "faces" / "faces.parquet")["file"][0]
    (own / name).write_bytes(encoded(drawn("RGB", 50, 40, 99)))
    assert ran(project.run("dvc", "repro", "crop").stdout) == ["inventory", "download", "crop"]
    assert project.read("data/faces/train.npy") != before

    # Without pictures, the folder that is asked for is named, and the other data set is as it was.
    for path in own.glob("*.png"):
        path.unlink()
    result = project.run("dvc", "repro", "crop")
    assert result.returncode != 0 and "dataset: folder needs pictures in data/folder" in result.stdout
    project.set(("dataset", "avatars"))
    result = project.run("dvc", "repro")
    assert result.returncode == 0 and set(ran(result.stdout)) <= {"inventory"}, result.stdout


OUTS = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv")


@pytest.fixture(scope="module")
def undisturbed(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy that was trained for more epochs in one go."""
    project = Project(tmp_path_factory.mktemp("undisturbed") / "dcgan")
    shutil.copytree(reproduced.folder, project.folder, ignore=shutil.ignore_patterns("checkpoints"))
    project.set(("epochs", "12"))
    result = project.run(sys.executable, "pipeline/train.py", DCGAN_TRACKING="0")
    assert result.returncode == 0, result.stdout
    return project


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped_goes_on_and_ends_in_the_same_bytes(
    project: Project, undisturbed: Project, number: signal.Signals
) -> None:
    shutil.rmtree(project.folder / "checkpoints")
    project.set(("epochs", "12"))
    tracked = number != signal.SIGINT  # which to the training is as SIGTERM
    project.env["DCGAN_TRACKING"] = str(int(tracked))
    process = subprocess.Popen(
        [sys.executable, "pipeline/train.py"],
        cwd=project.folder,
        env=project.env | {"DCGAN_CHECKPOINT_MINUTES": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((project.folder / "checkpoints").glob("*/[0-9]*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)  # polls; the outcome does not depend on how long it takes
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    result = project.run("dvc", "repro", "train")
    assert result.returncode == 0, result.stdout
    for name in OUTS:
        assert project.read(name) == undisturbed.read(name), name
    if tracked:
        first, second = runs(project)
        assert first.info.status == second.info.status == "FINISHED"
        curve = mlflow.MlflowClient().get_metric_history(second.info.run_id, "d_loss")
        assert [point.step for point in curve] == [36]  # told at the end, whoever came to it


def test_a_result_that_dvc_lost_is_taken_from_the_final_checkpoint(project: Project) -> None:
    before = project.read("models/generator.safetensors")
    (project.folder / "models" / "generator.safetensors").unlink()
    result = project.run(sys.executable, "pipeline/train.py")
    assert result.returncode == 0 and "training:" not in result.stdout  # not one step is taken again
    assert project.read("models/generator.safetensors") == before
    assert len(runs(project)) == 1


def test_a_wrong_setting_in_the_environment_is_one_sentence(project: Project) -> None:
    result = project.run(sys.executable, "pipeline/train.py", DCGAN_CHECKPOINT_MINUTES="often")
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert "DCGAN_CHECKPOINT_MINUTES: 'often' is not allowed" in result.stdout


def test_without_the_environment_a_stage_says_how_to_get_it(project: Project) -> None:
    # The interpreter without its site-packages, as `dvc repro` outside .venv would find it.
    result = project.run(sys.executable, "-S", "-E", "pipeline/crop.py")
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert "activate" in result.stdout


TOLD_BY_DVC = ("no YAML", "key twice", "empty file")  # in its own words, before a stage begins
# One of each way to end: a value, a combination, a key. The sentences of all mistakes are tested in test_params.py.
TOLD_BY_THE_SCHEMA = ("negative", "batch over data", "unknown key")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone as a user has it, with nothing reproduced."""
    return Project.create(tmp_path_factory.mktemp("fresh") / "dcgan", small=False)


def snapshot(project: Project) -> dict[str, bytes]:
    """Every file of a project, but for what git and DVC keep for themselves and Python caches."""
    paths = (path for path in project.folder.rglob("*") if path.is_file())
    hidden = {".git", ".dvc", "__pycache__"}
    return {str(p): p.read_bytes() for p in paths if not hidden & set(p.relative_to(project.folder).parts)}


@pytest.mark.parametrize(
    "mistake",
    [mistake for mistake in MISTAKES if mistake.name in TOLD_BY_DVC + TOLD_BY_THE_SCHEMA],
    ids=lambda mistake: mistake.name,
)
def test_a_mistake_ends_repro_with_a_sentence_and_changes_nothing(fresh: Project, mistake: Any) -> None:
    path = fresh.folder / "params.yaml"
    right = path.read_text()
    environment = [f"VENV={Path(sys.executable).parent.parent}", "INSTALLED="]  # this one, as it is
    try:
        path.write_text(mistake.apply(right))
        before = snapshot(fresh)
        for command in (["make", "--no-print-directory", "repro", *environment], ["dvc", "repro"]):
            result = fresh.run(*command)
            assert result.returncode != 0, result.stdout
            assert "Traceback" not in result.stdout
            said = [line for line in result.stdout.splitlines() if "params.yaml" in line]
            assert said, result.stdout
            if command[0] == "make" or mistake.name not in TOLD_BY_DVC:
                assert all(word in said[0] for word in mistake.words), result.stdout
            assert snapshot(fresh) == before
    finally:
        path.write_text(right)


def test_make_help_lists_the_targets() -> None:
    environment = f"VENV={Path(sys.executable).parent.parent}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(["make", environment], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    for target in ("repro", "test", "test-long", "test-cluster", "lint", "ui", "bench", "help"):
        assert f"make {target} " in shown
