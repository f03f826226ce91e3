"""The real tools: `dvc repro` and `dvc exp run` in a copy of the project, killed and spoilt on purpose."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from mistakes import MISTAKES
from project import ROOT, Project, ran, runs

from dcgan.tracking.metric_groups import GROUPS

STAGES = [
    "inventory",
    "download",
    "weights",
    "crop",
    "train",
    "sample",
    "attributes",
    "reference",
    "evaluate",
    "report",
]


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project that a test may change, cache and runs included."""
    return reproduced.copied_to(tmp_path / "dcgan").warm()


def outs(project: Project) -> list[str]:
    lock = yaml.safe_load(project.read("dvc.lock"))
    return [out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])]


def test_one_command_writes_everything(reproduced: Project) -> None:
    for out in outs(reproduced):
        assert (reproduced.folder / out).exists(), out
    metrics = json.loads(reproduced.read("reports/metrics.json"))
    assert metrics["frechet_distance"] > 0 and metrics["samples"] == 32 and "fid" not in metrics
    assert not set(metrics) & set(yaml.safe_load(reproduced.read("params.yaml")))  # `dvc exp show` has a column of each
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


def test_dvc_draws_three_charts_and_each_picture_once(reproduced: Project, tmp_path: Path) -> None:
    result = reproduced.run("dvc", "plots", "show", "-o", str(tmp_path))
    assert result.returncode == 0 and "ERROR" not in result.stdout and "WARNING" not in result.stdout, result.stdout
    page = (tmp_path / "index.html").read_text()
    specs = [json.JSONDecoder().raw_decode(text)[0] for text in re.split(r"(?:var|let|const) spec = ", page)[1:]]
    drawn = {spec["title"]: spec for spec in specs}
    assert set(drawn) == {"Losses", "What the discriminator believes", "Distance"}
    for spec in specs:
        curve, data = spec["encoding"]["color"]["field"], spec["data"]["values"]
        assert spec["encoding"]["x"]["field"] == "step" and max(float(row["step"]) for row in data) == 6
        fold = next((each for each in spec.get("transform", []) if "fold" in each), None)
        curves = set(fold["fold"]) if fold else {row[curve] for row in data}
        assert len(curves) == (3 if spec is drawn["What the discriminator believes"] else 2)
    pictures = [path.name.removeprefix("workspace_reports_") for path in (tmp_path / "static").iterdir()]
    assert sorted(pictures) == ["interpolation.png", "neighbours.png", "samples.png", "sheet.png"]


def test_the_run_holds_parameters_curves_pictures_metrics_and_model(reproduced: Project) -> None:
    (run,) = runs(reproduced)
    metrics = json.loads(reproduced.read("reports/metrics.json"))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["distance/frechet_distance"] == metrics["frechet_distance"]
    assert run.data.params["lr"] == "0.001" and run.data.params["fid_samples"] == "32"
    assert {"loss/d_loss", "loss/g_loss", "discriminator/d_real", "speed/images_per_second"} <= set(run.data.metrics)
    assert {name.partition("/")[0] for name in run.data.metrics} <= {*GROUPS, "system"}
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
    assert (tags["git_commit"], tags["git_dirty"], tags["command"]) == (first_commit, "false", "dvc repro train")
    assert tags["mlflow.source.git.commit"] == first_commit and tags["processor"] and tags["torch"]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "avatars" and tags["data_sha256"].startswith(dataset.dataset.digest)
    folder = Path(mlflow.MlflowClient().download_artifacts(run.info.run_id, "lineage"))
    assert {path.name for path in folder.iterdir()} == {"digests.json", "requirements.txt"}
    assert f"mlflow=={mlflow.__version__}" in (folder / "requirements.txt").read_text().split()
    # Every digest that dvc.lock has of a stage before the report.
    told = json.loads((folder / "digests.json").read_text())
    lock = yaml.safe_load(reproduced.read("dvc.lock"))["stages"]
    for stage in told:
        for side in ("deps", "outs"):
            assert told[stage][side] == {entry["path"]: entry["md5"] for entry in lock[stage].get(side, [])}, stage
    # The report is the last to log, and in dvc.lock only afterwards; it does not depend on the attributes.
    assert set(told) == set(STAGES) - {"attributes", "report"}


@pytest.mark.long
def test_a_result_that_no_store_has_seen_is_imported_by_sync_alone(project: Project) -> None:
    (project.folder / "mlflow.db").unlink()
    assert ran(project.run("dvc", "repro").stdout) == [] and not (project.folder / "mlflow.db").exists()
    project.run("dvc", "exp", "save", "--name", "kept", check=True)
    for _ in range(2):
        result = project.run("python", "-m", "dcgan", "sync")
        assert result.returncode == 0, result.stdout
        (run,) = runs(project)
    metrics = json.loads(project.read("reports/metrics.json"))
    assert run.data.tags["restored"] == "true" and run.data.params["lr"] == "0.001"
    assert run.info.run_name == run.data.tags["dvc_experiment"] == "kept"
    assert run.data.metrics["distance/frechet_distance"] == metrics["frechet_distance"]
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(run.info.run_id, "loss/d_loss")
    assert [point.step for point in curve] == [*pd.read_csv(project.folder / "reports/losses.csv")["step"]]
    assert len(client.list_artifacts(run.info.run_id, "images")) == 6  # 0, 1, 2 epochs, and an enlarged one beside each
    project.run("dvc", "exp", "run", "--name", "measured", "-S", "fid_samples=24", DCGAN_TRACKING="0", check=True)
    project.run("python", "-m", "dcgan", "sync", check=True)
    before, measured = runs(project)
    assert before.data.tags == run.data.tags and measured.data.tags["trained_in"] == run.info.run_id
    assert measured.data.tags["restored"] == "true" and measured.info.run_name == "measured"
    result = project.run("python", "-m", "dcgan", "sync", DCGAN_TRACKING="0")
    assert result.returncode == 1 and "DCGAN_TRACKING: 0 is not allowed" in result.stdout
    project.set(("lr", "0.5"))
    result = project.run("python", "-m", "dcgan", "sync")
    assert result.returncode == 1 and "not up to date: train, report;" in result.stdout and len(runs(project)) == 2


def test_faces_that_are_written_have_the_distance_that_was_measured(project: Project) -> None:
    """Anyone can check the number from picture files."""
    for words in (["generate", "--count", "32", "--out", "generated"], ["faces", "--split", "train", "--out", "real"]):
        project.run(sys.executable, "-m", "dcgan", *words, check=True)
    command = ["-m", "dcgan", "distance", "real", "generated", "--network", "efficientnet_lite0_dithered"]
    found = re.search(r"frechet_distance: ([\d.]+)", project.run(sys.executable, *command, check=True).stdout)
    assert found
    metrics = json.loads(project.read("reports/metrics.json"))
    assert float(found[1]) == pytest.approx(metrics["frechet_distance"], rel=1e-5)


def test_a_result_that_dvc_lost_is_taken_from_the_final_checkpoint(project: Project) -> None:
    before = project.read("models/generator.safetensors")
    (project.folder / "models" / "generator.safetensors").unlink()
    result = project.run(sys.executable, "-m", "pipeline.train")
    assert result.returncode == 0 and "training:" not in result.stdout  # not one step is taken again
    assert project.read("models/generator.safetensors") == before
    assert len(runs(project)) == 1


def test_a_wrong_setting_in_the_environment_is_one_sentence(project: Project) -> None:
    result = project.run(sys.executable, "-m", "pipeline.train", DCGAN_CHECKPOINT_MINUTES="often")
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert "DCGAN_CHECKPOINT_MINUTES: 'often' is not allowed" in result.stdout


def test_without_the_environment_a_stage_says_how_to_get_it(project: Project) -> None:
    # The interpreter without its site-packages, as `dvc repro` outside .venv would find it.
    result = project.run(sys.executable, "-S", "-E", "-m", "pipeline.crop")
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
