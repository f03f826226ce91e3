"""The last lines of a run: what came of it, and where to see more."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from project import Project, runs

from dcgan.tracking import evaluated
from dcgan.tracking.connection import connect
from dcgan.tracking.evaluated import Evaluated
from dcgan.tracking.run_folder import EVALUATION, PROTOCOL, Description

KNOWN = Evaluated("e", "1", "r" * 32, "lr 0.0004", 3, 389.2, "apex", "b" * 32, {"lr": "0.0005"})


def rows(output: str) -> dict[str, str]:
    """The lines of the summary by their first word, up to the sentence."""
    lines = output.strip().splitlines()
    return {line[:11].strip(): line[11:] for line in lines if line[10:11] == " "}


def summary(project: Project, *words: str, **env: str) -> str:
    result = project.run("python", "-m", "pipeline.support.summary", *words, check=False, **env)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_the_end_of_a_run_says_what_came_of_it(reproduced: Project) -> None:
    metrics, (run,) = json.loads(reproduced.read("reports/metrics.json")), runs(reproduced)
    output = summary(reproduced, "75")
    found = rows(output)
    assert found["distance"].startswith(f"{metrics['frechet_distance']:g} ± ")
    assert found["floor"].startswith(f"{metrics['frechet_distance_floor']:g}, 6 real faces")
    assert found["untrained"] == f"{metrics['frechet_distance_untrained']:g}"
    assert found["best"] == "this run, of 1 run measured alike" and found["report"] == "reports/report.html"
    assert found["MLflow"].startswith(f"{run.info.run_name}: `make ui`, then http://127.0.0.1:5000/#/")
    assert found["MLflow"].endswith(f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    assert found["time"] == "1 min 15 s"
    (words,) = (
        line for line in reproduced.read("reports/report.html").decode().splitlines() if 'class="judgement' in line
    )
    assert output.splitlines()[-1].strip()[-20:] in words.replace("&#39;", "'")  # the page's sentence ends it


def test_make_repro_ends_with_it(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan").warm()
    result = project.run("make", "repro", f"VENV={Path(shutil.which('dvc') or '').parents[1]}", "INSTALLED=")
    assert result.returncode == 0 and "up to date" in result.stdout
    assert set(rows(result.stdout.partition("up to date.")[2])) >= {"distance", "best", "report", "MLflow", "time"}


def test_under_make_repro_the_stage_leaves_it_to_make(reproduced: Project) -> None:
    assert summary(reproduced, DCGAN_SUMMARY="0") == ""
    assert rows(summary(reproduced, "75", DCGAN_SUMMARY="0"))["time"] == "1 min 15 s"


def test_a_result_that_is_not_in_mlflow_has_no_address(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan").warm()
    metrics = json.loads(project.read("reports/metrics.json"))
    (project.folder / "reports" / "metrics.json").write_text(json.dumps(metrics | {"frechet_distance": 1.5}))
    found = rows(summary(project))
    assert found["MLflow"] == "not logged yet; `dcgan sync` logs it" and not {"best", "time"} & set(found)
    assert not {"best", "MLflow"} & set(rows(summary(project, DCGAN_TRACKING="0")))


def test_the_best_run_is_named_with_what_tells_it_apart() -> None:
    assert KNOWN.best_run() == "389.2, apex (lr 0.0005), of 3 runs measured alike"
    many = replace(KNOWN, best_settings={"lr": "1", "nz": "", "ngf": "8", "ndf": "8", "seed": "2"})
    assert many.best_run() == "389.2, apex (lr 1, nz empty, ngf 8, 2 more), of 3 runs measured alike"
    assert replace(KNOWN, best_id=KNOWN.run_id).best_run() == "this run, of 3 runs measured alike"


def test_a_run_on_a_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow/")
    assert KNOWN.address() == f"https://***@example.org/mlflow/#/experiments/1/runs/{KNOWN.run_id}"


def test_runs_are_compared_with_those_that_were_measured_alike(tmp_path: Path, empty_store: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    client, experiment = connect(tmp_path)
    ids = {}
    for name, lr, distance, network in (
        ("own", "0.0004", 400.0, "a"),
        ("better", "0.0005", 300.0, "a"),
        ("another network", "0.0004", 1.0, "b"),
        ("unmeasured", "0.0004", None, "a"),
    ):
        tags = {PROTOCOL: json.dumps({"network": network, "code": name}), EVALUATION: name}
        run = client.create_run(experiment, tags=tags, run_name=name)
        ids[name] = run.info.run_id
        client.log_batch(run.info.run_id, params=[mlflow.entities.Param("lr", lr), mlflow.entities.Param("seed", "1")])
        if distance is not None:
            metric = "frechet_distance" if name == "better" else "distance/frechet_distance"  # the first: as long ago
            client.log_metric(run.info.run_id, metric, distance)
    evaluated.keep(tmp_path, client, experiment, Description({}, "no evaluation", {}))
    assert evaluated.read(tmp_path, "own") is None
    evaluated.keep(tmp_path, client, experiment, Description({EVALUATION: "own"}, "own", {}))
    assert evaluated.read(tmp_path, "own") == Evaluated(
        "own", experiment, ids["own"], "own", 2, 300.0, "better", ids["better"], {"lr": "0.0005"}
    )
    assert evaluated.read(tmp_path, "better") is None
    evaluated.keep(tmp_path, client, experiment, Description({EVALUATION: "better"}, "better", {}))
    found = evaluated.read(tmp_path, "better")
    assert found and found.best_id == found.run_id and not found.best_settings
