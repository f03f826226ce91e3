"""Several processes train what one trains, however they are started: on the CPU, with gloo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from project import Project
from safetensors.torch import load_file
from warm import warm

from dcgan.sampling import random_state
from dcgan.system.ranks import Ranks
from dcgan.training.augment import diff_augment

OUTS = ("models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
# Trains on noise without BatchNorm, and leaves each rank's weights in files of its own.
STEPS = """
import json, os, sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from dcgan import networks
from dcgan.system import hardware, ranks
from dcgan.training.batches import batches
from dcgan.networks import Settings
from dcgan.training.step import Recipe, Trainer

torch.set_num_threads(1)
folder, trainings = Path(sys.argv[1]), json.loads(sys.argv[2])
for name in ("Generator", "Discriminator"):  # their BatchNorm taken out
    def plain(self, settings, start=getattr(networks, name).__init__):
        start(self, settings)
        self.main = nn.Sequential(*(layer for layer in self.main if not isinstance(layer, nn.BatchNorm2d)))
    getattr(networks, name).__init__ = plain
machine = hardware.resolve(0, "fp32", ranks.local_rank())
hardware.prepare()
faces = torch.randint(0, 256, (80, 32, 32, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8).numpy()
with ranks.joined(machine.device) as mine:
    for name, (steps, changes) in trainings.items():
        recipe = Recipe(**{"epochs": 1, "batch_size": 16} | changes)
        trainer = Trainer(Settings(image_size=32, nz=8, ngf=8, ndf=8), recipe, machine, mine)
        stream = batches(faces, recipe.batch_size, 1, 0, steps, machine.device, mine, recipe.mirror)
        rows = [trainer.step(number, real) for number, real in enumerate(stream)]
        state = {**trainer.state(), "rows": torch.stack(rows)}
        save_file(state, folder / f"{name} {mine.rank} of {mine.count}.safetensors")
"""
# Rounding grows, until a gradient near 0 has another sign and so has Adam's step: ten steps with the penalties, which
# take them at the first and at the ninth, and more without.
TRAININGS: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (50, {}),
    "all": (10, {"loss": "relativistic", "r1_gamma": 1.0, "mirror": True, "augment": True, "ema_halflife_kimg": 0.1}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one rank and two leave of each training."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "steps.py"
    script.write_text(STEPS)
    what = (str(script), str(folder), json.dumps(TRAININGS))
    env = warm(dict(os.environ))
    subprocess.run([sys.executable, *what], env=env, check=True)
    subprocess.run([*TORCHRUN, "--nproc-per-node", "2", *what], env=env, check=True)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", TRAININGS)
def test_one_and_two_ranks_agree(trained: Path, name: str) -> None:
    alone, first, second = (load_file(trained / f"{name} {of}.safetensors") for of in ("0 of 1", "0 of 2", "1 of 2"))
    assert set(alone) == set(first) == set(second)
    moved = 0.0
    for key, value in alone.items():
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-4, equal_nan=True)
        moved += float(value.double().nansum().abs())
    assert moved > 0 and alone["rows"].shape == (TRAININGS[name][0], 6)
    assert not torch.equal(alone["rows"][0], alone["rows"][-1])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_ranks_augment_as_one_would(each: int, ranks: int, seed: int) -> None:
    pictures = torch.rand(each * ranks, 3, 32, 32) * 2 - 1
    whole = diff_augment(pictures, random_state(seed, "x"))
    parts = [
        diff_augment(Ranks(rank, ranks).shard(pictures), random_state(seed, "x"), rank, ranks) for rank in range(ranks)
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy that has not trained yet, and is to train as two ranks."""
    folder = tmp_path / "dcgan"
    ignored = shutil.ignore_patterns("checkpoints", "mlflow.db", "mlartifacts")
    shutil.copytree(reproduced.folder, folder, ignore=ignored)
    project = Project(folder).warm()
    remove_outs(project)
    project.set(("epochs", "6"), ("ngpu", "0"), ("ranks", "2"), ("batch_size", "16"))
    project.env |= {"OMP_NUM_THREADS": "1", "DCGAN_CHECKPOINT_MINUTES": "0", "DCGAN_TRACKING": "0"}
    return project


def started(project: Project, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.train"],
        cwd=project.folder,
        env=project.env | env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(process: subprocess.Popen[str]) -> str:
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def remove_outs(project: Project) -> None:
    shutil.rmtree(project.folder / "checkpoints", ignore_errors=True)
    for name in OUTS:
        (project.folder / name).unlink()


def outs(project: Project) -> dict[str, bytes]:
    return {name: project.read(name) for name in OUTS}


def launcher(project: Project, *lines: str) -> str:
    """A command that starts ranks: a script of these lines."""
    script = project.folder.parent / "launch"
    script.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    script.chmod(0o755)
    return str(script)


# As srun does, on one machine: it starts the ranks and ends with the status of one that failed.
SRUN = (
    "rank=0; pids=",
    'for rank in 0 1; do SLURM_PROCID=$rank SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=$rank "$@" & pids="$pids $!"; done',
    "status=0; for pid in $pids; do wait $pid || status=$?; done; exit $status",
)


def ranks_of(project: Project, **variables: str) -> list[int]:
    """The process ids of the ranks that have these variables, by number."""
    found: dict[int, int] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ() if process.cwd() == str(project.folder) else {}
            if "RANK" in environment and variables.items() <= environment.items():
                found[int(environment["RANK"])] = process.pid
    return [found[number] for number in sorted(found)]


def checkpoints(project: Project) -> list[int]:
    """The steps after which there are checkpoints."""
    return sorted(int(path.name[:8]) for path in (project.folder / "checkpoints").glob("*/[0-9]*.safetensors"))


def wait_for_checkpoint(project: Project, process: subprocess.Popen[str], after: int = 0) -> None:
    """Until there is a checkpoint of a later step."""
    while max(checkpoints(project), default=0) <= after:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)  # polls; the outcome does not depend on how long it takes


@pytest.mark.long
def test_dvc_trains_with_three_ranks_once_and_to_the_same_bytes_when_one_is_killed(project: Project) -> None:
    """Of three, since a sum of two numbers has no order."""
    project.set(("batch_size", "15"), ("epochs", "12"), ("ranks", "3"))
    result = project.run("dvc", "repro", "--single-item", "train", DCGAN_TRACKING="1")
    assert result.returncode == 0, result.stdout
    expected = outs(project)
    runtime = json.loads(project.read("reports/runtime.json"))["train"]
    assert runtime["ranks"] == 3 and runtime["images_per_second"] > 0
    client = MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'dcgan'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["ranks"] == "3" and run.info.status == "FINISHED"

    remove_outs(project)
    process = started(project)
    wait_for_checkpoint(project, process)
    os.kill(ranks_of(project)[0], signal.SIGKILL)  # the one that writes; of two machines another is killed
    assert "restarting all ranks" in finished(process)
    assert outs(project) == expected


@pytest.mark.long
def test_a_signal_to_the_stage_saves_whatever_the_launcher_does_with_it(project: Project) -> None:
    project.set(("epochs", "24"))
    project.env |= {"DCGAN_CHECKPOINT_MINUTES": "0.02", "DCGAN_LAUNCHER": launcher(project, *SRUN)}  # dozens of steps
    process = started(project)
    wait_for_checkpoint(project, process)
    before = checkpoints(project)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGINT and "Traceback" not in said, said
    saved = checkpoints(project)
    assert before[-1] < saved[-1] < 24 * 3 and not (project.folder / OUTS[0]).exists()
    finished(started(project))
    interrupted = outs(project)
    remove_outs(project)
    del project.env["DCGAN_LAUNCHER"]
    finished(started(project))  # on this machine, without a launcher
    assert outs(project) == interrupted


@pytest.mark.long
def test_a_signal_to_the_ranks_alone_ends_the_stage_as_interrupted(project: Project) -> None:
    """Slurm sends the one before a job's time is over to the processes of its steps."""
    process = started(project)
    wait_for_checkpoint(project, process)
    for rank in ranks_of(project):
        os.kill(rank, signal.SIGTERM)
    said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM and "restarting" not in said, said


@pytest.mark.long
def test_a_launcher_that_dies_is_started_again(project: Project) -> None:
    mark = project.folder.parent / "died"
    once = f"if mkdir {mark} 2>/dev/null; then (until ls checkpoints/*/0*1.safetensors; do :; done; kill -KILL $$) & fi"
    finished(started(project))
    expected = outs(project)
    remove_outs(project)
    said = finished(started(project, DCGAN_LAUNCHER=launcher(project, once, *SRUN)))
    assert "a rank ended with status -9; restarting all ranks" in said
    assert outs(project) == expected


@pytest.mark.long
def test_ranks_that_would_compute_otherwise_are_told_apart(project: Project) -> None:
    threads = ("export OMP_NUM_THREADS=$((SLURM_PROCID + 1)) WARM_PYTHON=", 'exec "$@"')
    inner = launcher(project, *threads)
    outer = project.folder.parent / "outer"
    outer.write_text("\n".join(["#!/bin/sh", *SRUN]).replace('"$@"', f'{inner} "$@"'))
    outer.chmod(0o755)
    process = started(project, DCGAN_LAUNCHER=str(outer))
    said = process.communicate()[0]
    assert process.returncode == 1 and "threads: differs between the ranks" in said.splitlines()[-1], said


def two_machines(project: Project) -> str:
    """A launcher that starts torchrun on two machines, both of them here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = f"127.0.0.1:{listening.getsockname()[1]}"
    words = f"{sys.executable} -m torch.distributed.run --nnodes 2 --rdzv-backend c10d --rdzv-endpoint {endpoint}"
    return launcher(
        project,
        f'MACHINE=0 {words} --rdzv-id test --max-restarts 2 --no-python "$@" & first=$!',
        f'MACHINE=1 {words} --rdzv-id test --max-restarts 2 --no-python "$@" & second=$!',
        "wait $first || exit 1; wait $second",
    )


@pytest.mark.long
def test_two_machines_train_what_one_does_though_a_rank_is_killed(project: Project) -> None:
    process = started(project, DCGAN_LAUNCHER=two_machines(project))
    wait_for_checkpoint(project, process)
    os.kill(ranks_of(project, MACHINE="1")[-1], signal.SIGKILL)
    finished(process)
    restarted = outs(project)
    remove_outs(project)
    finished(started(project, DCGAN_LAUNCHER=" ".join([*TORCHRUN, "--nproc-per-node", "2"])))
    assert outs(project) == restarted


REFUSED = {
    "torchrun by hand": ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "one of 2 processes that no stage has"),
    "srun by hand": (
        {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"},
        "pipeline.train: this is one of 4 processes that no stage has started; run `dvc repro` once, with ",
    ),
    "mpirun by hand": (
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
        "one of 2 processes that no stage has started",
    ),
    "no such launcher": ({"DCGAN_LAUNCHER": "no-such-launcher -n 2"}, "DCGAN_LAUNCHER: cannot run no-such-launcher"),
    "a launcher that starts nothing": (
        {"DCGAN_LAUNCHER": "true"},
        "DCGAN_LAUNCHER: `true` ended with status 0 before a rank had started; correct it.",
    ),
    "a launcher of another kind": (
        {"DCGAN_LAUNCHER": "env"},
        "DCGAN_LAUNCHER: it sets none of RANK, OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID for its processes",
    ),
    "another number of ranks": (
        {"DCGAN_LAUNCHER": "env SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_LOCALID=0"},
        "ranks: params.yaml asks for 2, but DCGAN_LAUNCHER started 1; give ranks: 1, or start 2.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_record_a_wrong_result_is_refused_in_a_sentence(project: Project, case: str) -> None:
    variables, sentence = REFUSED[case]
    project.env |= variables
    result = project.run(sys.executable, "-m", "pipeline.train")
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout
    assert sentence in result.stdout.splitlines()[-1], result.stdout
    assert not (project.folder / OUTS[0]).exists() and not list((project.folder / ".dvc" / "tmp").glob("ranks-*"))


def test_a_stage_that_dvc_has_not_started_says_that_dvc_will_not_know(project: Project) -> None:
    result = project.run(sys.executable, "-m", "pipeline.sample", DCGAN_TRACKING="0")
    assert (
        "DVC will not know of this result, since it has not started the stage; run `dvc repro sample`" in result.stdout
    )


# A stage that launches two ranks, which need no data.
STAGE = """
import os, sys, time
from pathlib import Path

import torch

from pipeline.support.inputs import RANK_FILE
from pipeline.support.launch_ranks import launch
from pipeline.support.signals import stop_signal
from pipeline.support.stage import run
from dcgan.system.errors import Interrupted, UserError
from dcgan.schema import Section

def main(params):
    if launch(2):
        return
    stop = stop_signal()
    rank, what = os.environ["RANK"], os.environ["WHAT"]
    attempt = len(list(Path().glob(f"{rank}-?")))
    Path(f"{rank}-{attempt}").touch()
    if what == "mistake":
        raise UserError("lr: it is a mistake.")
    if what == "full" and rank == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    while what == "full":  # the other notices when the first has ended
        if list(RANK_FILE.parent.glob("error-*")):
            raise RuntimeError("Connection closed by peer")
        time.sleep(0.01)
    if what == "dies once" and rank + str(attempt) == "10" or what == "dies always" and rank == "1":
        while not Path(f"0-{attempt}").exists():  # or it could be stopped before it came so far
            time.sleep(0.01)
        os._exit(9)
    while what == "waits":
        if signal := stop():
            Path(f"{rank}-saved").touch()
            raise Interrupted(signal)
        time.sleep(0.01)

run(Section, main)
"""


@pytest.fixture
def launching(reproduced: Project, tmp_path: Path) -> Project:
    folder = tmp_path / "dcgan"
    for name in ("src", "pipeline"):
        shutil.copytree(reproduced.folder / name, folder / name)
    shutil.copyfile(reproduced.folder / "params.yaml", folder / "params.yaml")
    (folder / "dvc.yaml").write_text("stages: {stage_of_two: {cmd: python -m pipeline.stage_of_two}}")
    (folder / "pipeline" / "stage_of_two.py").write_text(STAGE)
    return Project(folder).warm()


def launched(project: Project, what: str) -> tuple[int, str, set[str]]:
    """Status, last lines and the files that the ranks left."""
    result = project.run(sys.executable, "-m", "pipeline.stage_of_two", WHAT=what)
    return result.returncode, result.stdout, {path.name for path in project.folder.glob("[01]-*")}


@pytest.mark.long
def test_a_rank_that_died_is_started_again_with_the_other(launching: Project) -> None:
    status, said, left = launched(launching, "dies once")
    assert status == 0, said
    assert left == {"0-0", "1-0", "0-1", "1-1"} and "restarting all ranks" in said


@pytest.mark.long
def test_a_mistake_on_the_ranks_is_one_sentence_and_is_not_made_again(launching: Project) -> None:
    status, said, left = launched(launching, "mistake")
    assert status == 1 and said.splitlines()[-1] == "lr: it is a mistake." and "Traceback" not in said, said
    assert left <= {"0-0", "1-0"}


@pytest.mark.long
def test_a_full_gpu_is_one_sentence_and_the_ranks_are_not_started_again(launching: Project) -> None:
    status, said, left = launched(launching, "full")
    (sentence,) = (line for line in said.splitlines() if "memory" in line.lower())
    assert status == 1 and sentence == said.splitlines()[-1] and sentence.startswith("The memory of the GPU is full"), (
        said
    )
    assert "Traceback" not in said and "Connection" not in said and left == {"0-0", "1-0"}, said


@pytest.mark.long
def test_a_rank_that_always_dies_ends_the_stage_with_a_sentence(launching: Project) -> None:
    status, said, left = launched(launching, "dies always")
    assert status == 1 and "Traceback" not in said, said
    assert "pipeline.stage_of_two: gave up after 3 restarts" in said.splitlines()[-1]
    assert "1-3" in left and "1-4" not in left


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_ranks_and_is_the_status(launching: Project, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.stage_of_two"],
        cwd=launching.folder,
        env=launching.env | {"WHAT": "waits"},
        text=True,
        stderr=subprocess.PIPE,
    )
    while not {"0-0", "1-0"} <= {path.name for path in launching.folder.glob("[01]-0")}:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)  # polls
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 128 + number and "Traceback" not in said, said
    assert {"0-saved", "1-saved"} <= {path.name for path in launching.folder.glob("*-saved")}
