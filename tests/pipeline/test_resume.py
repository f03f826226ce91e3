"""Trainings that are stopped, and several processes: each ends in the same bytes."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from project import Project, other_system, runs

pytestmark = pytest.mark.long


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project that a test may change, cache and runs included."""
    return reproduced.copied_to(tmp_path / "dcgan").warm()


def test_several_processes_measure_what_one_does(project: Project) -> None:
    """Also where one of several would have fewer threads than a single one, and where Linux's calls are missing."""
    del project.env["OMP_NUM_THREADS"]
    project.env["DCGAN_TRACKING"] = "0"
    names = ("data/reference/statistics.safetensors", "data/reference/train.npy", "reports/metrics.json")
    found = []
    for processes in "12":
        for stage in ("reference", "evaluate"):
            path = other_system(project.env["PYTHONPATH"])
            command = (sys.executable, "-m", f"pipeline.{stage}")
            result = project.run(*command, DCGAN_PROCESSES=processes, PYTHONPATH=path)
            assert result.returncode == 0, result.stdout
            each = "2 processes of " if processes == "2" else ""
            assert re.search(rf"(?m)^{stage}: on the CPU \(.+\), {each}\d+ threads?, fp32$", result.stdout), (
                result.stdout
            )
        found.append([project.read(name) for name in names])
    assert found[0] == found[1]


OUTS = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv")


@pytest.fixture(scope="module")
def undisturbed(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy that was trained for more epochs in one go."""
    project = Project(tmp_path_factory.mktemp("undisturbed") / "dcgan").warm()
    shutil.copytree(reproduced.folder, project.folder, ignore=shutil.ignore_patterns("checkpoints"))
    project.set(("epochs", "12"))
    result = project.run(sys.executable, "-m", "pipeline.train", DCGAN_TRACKING="0")
    assert result.returncode == 0, result.stdout
    return project


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped_goes_on_and_ends_in_the_same_bytes(
    project: Project, undisturbed: Project, number: signal.Signals
) -> None:
    shutil.rmtree(project.folder / "checkpoints")
    project.set(("epochs", "12"))
    tracked = number != signal.SIGINT  # which to the training is as SIGTERM
    project.env["DCGAN_TRACKING"] = str(int(tracked))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.train"],
        cwd=project.folder,
        env=project.env | {"DCGAN_CHECKPOINT_MINUTES": "0", "DVC_EXP_NAME": "dead", "DVC_EXP_BASELINE_REV": "0" * 40},
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
        assert second.info.run_name == "epochs 12" and "dvc_experiment" not in second.data.tags
        assert "dead" not in second.data.tags["environment"]
        curve = mlflow.MlflowClient().get_metric_history(second.info.run_id, "loss/d_loss")
        assert [point.step for point in curve] == [36]  # told at the end, whoever came to it


def test_a_training_that_cannot_go_on_says_why(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan")  # not warm: torch takes its threads from the environment
    project.env["DCGAN_TRACKING"] = "0"
    command = (sys.executable, "-m", "pipeline.train")
    result = project.run(*command)
    assert result.returncode == 0 and "from scratch" not in result.stdout, result.stdout
    result = project.run(*command, OMP_NUM_THREADS="2")
    assert result.returncode == 0, result.stdout
    said = r"(?m)^WARNING: the training starts from scratch, not from step 6 in checkpoints/\w{32}, since it differs: "
    found = re.search(said + "(.*)$", result.stdout)
    assert found and found[1] == "threads 1, then 2", result.stdout
    next((project.folder / "checkpoints").glob("*/epoch_00001.png")).unlink()
    result = project.run(*command, OMP_NUM_THREADS="2")
    assert "epoch_00001.png is missing; the training starts from scratch, not from step 6" in result.stdout


# Torch as it is on a GPU whose memory is full.
FULL = """
import torch

def step(self, closure=None):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

torch.optim.Adam.step = step
"""


def test_a_training_on_a_full_gpu_ends_in_a_sentence(reproduced: Project, tmp_path: Path) -> None:
    project = reproduced.copied_to(tmp_path / "dcgan")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "sitecustomize.py").write_text(FULL)
    project.set(("lr", "0.0007"))
    path = f"{tmp_path / 'full'}:{project.env['PYTHONPATH']}"
    result = project.run(sys.executable, "-m", "pipeline.train", PYTHONPATH=path, DCGAN_TRACKING="0")
    *_, last = result.stdout.splitlines()
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout
    assert last.startswith("The memory of the GPU is full") and "lower batch_size: 16, ngf: 8, ndf: 8 or " in last, last
    assert re.search(r"(?m)^train: on the CPU \(.+\), 1 thread, \w+$", result.stdout), result.stdout
