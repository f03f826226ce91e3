"""Several machines: examples/slurm.sh under a real Slurm of two nodes, and Open MPI. `make test-cluster` runs this.

`machines.sh` makes the nodes of this machine, with the /etc/hosts of Debian. It needs root, and the packages slurm-wlm,
munge, openmpi-bin and iproute2. There is no GPU: the training is told to use the CPU.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from project import Project, runs

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # Slurm lets a job that is queued again wait two minutes

SCRIPT = Path(__file__).parent / "machines.sh"
OUTS = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv")
EPOCHS = 300


@dataclass(frozen=True)
class Machines:
    """Two nodes, made by `machines.sh` in `folder`."""

    folder: Path

    def on(self, node: str, project: Project, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project, on a node."""
        return project.run(str(SCRIPT), "on", node, str(self.folder), *command)

    def slurm(self, project: Project, *command: str) -> str:
        """What a command of Slurm prints."""
        result = self.on("node1", project, *command)
        assert result.returncode == 0, result.stdout
        return result.stdout.strip()

    def submit(self, project: Project, *options: str) -> str:
        """Submits examples/slurm.sh, and returns the number of the job."""
        return self.slurm(project, "sbatch", "--parsable", *options, "examples/slurm.sh")

    def finished(self, project: Project, job: str) -> dict[str, str]:
        """Waits for the end of a job; what Slurm knows about it then."""
        while True:
            about = dict(re.findall(r"(\w+)=(\S*)", self.slurm(project, "scontrol", "show", "job", job)))
            if about["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"):
                assert about["JobState"] == "COMPLETED", project.read(f"slurm-{job}.out").decode()
                return about
            time.sleep(1)  # polls


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    missing = [name for name in ("sbatch", "munged", "mpirun", "ip") if not shutil.which(name)]
    if missing or os.geteuid():
        pytest.fail(f"not root, or {', '.join(missing)} missing: see the head of {SCRIPT.name}", pytrace=False)
    folder = tmp_path_factory.mktemp("machines")
    subprocess.run([str(SCRIPT), "up", str(folder)], check=True, timeout=60)
    try:
        yield Machines(folder)
    finally:
        subprocess.run([str(SCRIPT), "down", str(folder)], check=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project whose data is ready."""
    project = Project.create(tmp_path_factory.mktemp("prepared") / "dcgan")
    project.set(("epochs", str(EPOCHS)), ("ngpu", "0"), ("ranks", "2"), ("batch_size", "16"))
    (project.folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    project.env["OMP_NUM_THREADS"] = "1"
    result = project.run("dvc", "repro", "crop", "reference")
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture(scope="module")
def undisturbed(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What two ranks of this machine make of it, without Slurm."""
    return trained(copied(prepared, tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def project(prepared: Project, machines: Machines, tmp_path: Path) -> Project:
    project = copied(prepared, tmp_path)
    project.env["SLURM_CONF"] = str(machines.folder / "slurm.conf")
    return project


def copied(project: Project, folder: Path) -> Project:
    copy = Project(folder / "dcgan")
    shutil.copytree(
        project.folder, copy.folder, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts")
    )
    copy.env |= {"OMP_NUM_THREADS": "1", "DCGAN_CHECKPOINT_MINUTES": "0.05"}
    return copy


def trained(project: Project) -> Project:
    result = project.run("dvc", "repro")
    assert result.returncode == 0, result.stdout
    return project


def points(project: Project) -> list[dict[str, list[tuple[int, float]]]]:
    """The points of each run in the project's store, of metrics that do not depend on the time."""
    client = MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")
    return [
        {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in sorted(run.data.metrics)
            if not name.startswith(("system/", "images_", "seconds_", "peak_", "share_")) and "_share" not in name
        }
        for run in runs(project)
    ]


def check_as_undisturbed(project: Project, undisturbed: Project) -> None:
    """The same outs and the same runs, each point once."""
    assert json.loads(project.read("reports/runtime.json"))["train"]["ranks"] == 2
    for name in (*OUTS, "reports/metrics.json"):
        assert project.read(name) == undisturbed.read(name), name
    assert [run.info.status for run in runs(project)] == ["FINISHED"] * len(runs(undisturbed))
    assert points(project) == points(undisturbed)
    assert project.run("dvc", "status").stdout.strip().endswith("up to date.")


SHAPES = {"two nodes of one rank": (), "one node of two": ("--nodes=1", "--ntasks-per-node=2")}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_job_makes_what_one_machine_does(
    machines: Machines, project: Project, undisturbed: Project, shape: str
) -> None:
    job = machines.submit(project, *SHAPES[shape])
    machines.finished(project, job)
    check_as_undisturbed(project, undisturbed)


def test_a_job_that_its_limit_stops_goes_on_by_itself(
    machines: Machines, project: Project, undisturbed: Project
) -> None:
    # Slurm sends the signal up to a minute early, so that each start has between 30 and 60 seconds.
    job = machines.submit(project, "--time=2", "--signal=B:TERM@60")
    about = machines.finished(project, job)
    assert int(about["Restarts"]) >= 2
    check_as_undisturbed(project, undisturbed)


def test_a_job_that_is_cancelled_is_not_queued_again(machines: Machines, project: Project) -> None:
    job = machines.submit(project)
    while not list((project.folder / "checkpoints").glob("*/epoch_00001.png")):
        time.sleep(0.1)  # polls
    machines.slurm(project, "scancel", job)
    while (
        state := machines.slurm(project, "squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    ) in (
        "RUNNING",
        "COMPLETING",
    ):
        time.sleep(1)  # polls
    assert state == "CANCELLED"
    assert not (project.folder / OUTS[0]).exists()
    assert runs(trained(project))[0].info.status == "FINISHED"


def test_two_trainings_share_a_node(machines: Machines, project: Project, prepared: Project, tmp_path: Path) -> None:
    other = copied(prepared, tmp_path / "other")
    other.env["SLURM_CONF"] = project.env["SLURM_CONF"]
    other.set(("seed", "2"))
    jobs = [
        (each, machines.submit(each, "--nodes=1", "--ntasks-per-node=2", "--nodelist=node2"))
        for each in (project, other)
    ]
    starts = [machines.finished(*job)["StartTime"] for job in jobs]
    ends = [machines.finished(*job)["EndTime"] for job in jobs]
    assert max(starts) < min(ends)
    assert project.read(OUTS[0]) != other.read(OUTS[0])


def test_open_mpi_starts_ranks_on_both_machines(machines: Machines, project: Project, undisturbed: Project) -> None:
    agent = project.folder.parent / "rsh"  # what mpirun calls instead of ssh
    agent.write_text(f'#!/bin/sh\nnode=$1; shift; exec {SCRIPT} on "$node" {machines.folder} sh -c "$*"\n')
    agent.chmod(0o755)
    project.env["DCGAN_LAUNCHER"] = f"mpirun --allow-run-as-root --mca plm_rsh_agent {agent} --host node1,node2"
    result = machines.on("node1", project, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    check_as_undisturbed(project, undisturbed)


@pytest.mark.parametrize("launcher", ["srun --ntasks=2", "mpirun --allow-run-as-root --oversubscribe -n 2"])
def test_ranks_without_a_stage_are_refused(machines: Machines, project: Project, launcher: str) -> None:
    result = machines.on("node1", project, *launcher.split(), sys.executable, "-m", "pipeline.train")
    assert result.returncode != 0
    assert result.stdout.count("this is one of 2 processes that no stage has started; run `dvc repro` once") == 2
    assert not (project.folder / OUTS[0]).exists()


def test_a_killed_srun_is_started_again(machines: Machines, project: Project, undisturbed: Project) -> None:
    project.env["DCGAN_LAUNCHER"] = "srun --ntasks=2 --nodes=2"
    process = subprocess.Popen(
        [str(SCRIPT), "on", "node1", str(machines.folder), "dvc", "repro"],
        cwd=project.folder, env=project.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while not list((project.folder / "checkpoints").glob("*/epoch_00010.png")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)  # polls
    subprocess.run(["pkill", "-KILL", "--full", "srun --ntasks=2 --nodes=2.*pipeline.train"], check=True)
    said = process.communicate()[0]
    assert process.returncode == 0 and "restarting all ranks" in said, said
    check_as_undisturbed(project, undisturbed)
