"""The job that the README shows for Slurm, given to a real Slurm of two nodes; `make test-cluster` runs it.

All nodes need to see the project's folder: where /tmp is not shared, `PYTEST_ADDOPTS=--basetemp=/shared/new-folder`
names one that is. What a site wants besides is said by Slurm's own variables, as SBATCH_PARTITION. One machine can be
two nodes, by two `slurmd -N`, if /etc/hosts gives their names the address of the machine's own.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from project import ROOT, Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # a job may have to wait for others

OUTS = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv")
# What the README's job has for GPUs, and what it takes for one rank a node on the CPU.
FOR_CPU = (
    (" --gpus-per-node=4", ""),
    ("--cpus-per-task=16", "--cpus-per-task=1"),
    ("--nproc-per-node 4", "--nproc-per-node 1"),
)


def job_script() -> str:
    """The block after "Under **Slurm**" in the README, for the CPU."""
    found = re.search(r"Under \*\*Slurm\*\*.*\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text())
    assert found, "the README shows no job for Slurm"
    script = textwrap.dedent(found[1])
    for with_gpus, without in FOR_CPU:
        assert script.count(with_gpus) == 1, f"the README's job has no {with_gpus.strip()} now"
        script = script.replace(with_gpus, without)
    return script


@dataclass
class Job:
    """A job of a project: its number, and `sbatch --wait`, which ends with the job and has its status."""

    number: str
    waiting: subprocess.Popen[str]
    output: Path

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else "the job has not started"


@contextmanager
def submitted(project: Project) -> Iterator[Job]:
    """Gives the README's job to Slurm, and takes it back if a test ends before it does."""
    (project.folder / "job.sh").write_text(job_script())
    output = project.folder / "job.out"
    output.unlink(missing_ok=True)
    waiting = subprocess.Popen(
        ["sbatch", "--wait", "--parsable", "--time=15", f"--output={output}", "job.sh"],
        cwd=project.folder,
        env=project.env,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert waiting.stdout is not None
    number = waiting.stdout.readline().strip().partition(";")[0]
    assert number.isdigit(), "sbatch has not taken the job; its reason is in the captured stderr"
    try:
        yield Job(number, waiting, output)
    finally:
        if waiting.poll() is None:
            subprocess.run(["scancel", number], check=False)
        waiting.communicate()


@pytest.fixture(scope="module")
def slurm() -> None:
    if not (shutil.which("sbatch") and shutil.which("srun")):
        pytest.fail("sbatch and srun are not on the PATH: run this where jobs are given to Slurm.", pytrace=False)


@pytest.fixture(scope="module")
def prepared(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project whose data is ready."""
    project = Project.create(tmp_path_factory.mktemp("cluster") / "dcgan")
    project.set(("epochs", "60"), ("ngpu", "0"))
    project.env |= {"OMP_NUM_THREADS": "1", "DCGAN_TRACKING": "0", "DCGAN_CHECKPOINT_MINUTES": "0.01"}
    result = project.run("dvc", "repro", "crop")
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture(scope="module")
def expected(prepared: Project) -> dict[str, bytes]:
    """What two ranks on this machine make of it, without Slurm."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    result = prepared.run(*torchrun, "-m", "pipeline.train")
    assert result.returncode == 0, result.stdout
    return outs(prepared)


@pytest.fixture
def project(prepared: Project, expected: dict[str, bytes]) -> Project:
    """The small project as if it had not trained yet."""
    shutil.rmtree(prepared.folder / "checkpoints")
    for name in (*OUTS, "reports/runtime.json"):
        (prepared.folder / name).unlink(missing_ok=True)
    return prepared


def outs(project: Project) -> dict[str, bytes]:
    return {name: project.read(name) for name in OUTS}


def checkpoints(project: Project) -> list[int]:
    """The steps after which there are checkpoints."""
    return sorted(int(path.name[:8]) for path in (project.folder / "checkpoints").glob("*/[0-9]*.safetensors"))


def test_a_job_on_two_nodes_trains_what_two_ranks_of_one_machine_do(
    project: Project, expected: dict[str, bytes]
) -> None:
    with submitted(project) as job:
        assert job.waiting.wait() == 0, job.said()
    assert json.loads(project.read("reports/runtime.json"))["train"]["ranks"] == 2
    assert outs(project) == expected


def test_a_job_that_is_stopped_saves_and_goes_on_when_it_is_submitted_again(
    project: Project, expected: dict[str, bytes]
) -> None:
    with submitted(project) as job:
        while not (before := checkpoints(project)):
            assert job.waiting.poll() is None, job.said()
            time.sleep(0.05)  # polls; the outcome does not depend on how long it takes
        # As `--signal` does before the end of a job's time: to every process of its steps.
        subprocess.run(["scancel", "--signal=TERM", job.number], check=True)
        assert job.waiting.wait() != 0, job.said()
    saved = checkpoints(project)
    assert before[-1] < saved[-1] < 60 * 3, job.said()
    assert not (project.folder / OUTS[0]).exists()

    (untrained,) = (project.folder / "checkpoints").glob("*/epoch_00000.png")  # made by a training that starts anew
    made = untrained.stat().st_mtime_ns
    with submitted(project) as job:
        assert job.waiting.wait() == 0, job.said()
    assert untrained.stat().st_mtime_ns == made
    assert outs(project) == expected
