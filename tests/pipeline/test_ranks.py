"""Several processes train what one trains: under torchrun, on the CPU, with gloo."""

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
        stream = batches(faces, recipe.batch_size, 1, 0, steps, machine.device, mine)
        rows = [trainer.step(number, real) for number, real in enumerate(stream)]
        state = {**trainer.state(), "rows": torch.stack(rows)}
        save_file(state, folder / f"{name} {mine.rank} of {mine.count}.safetensors")
"""
# Rounding grows, until a gradient near 0 has another sign and so has Adam's step: ten steps with the penalties, which
# take them at the first and at the ninth, and more without.
TRAININGS: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (50, {}),
    "all": (10, {"loss": "relativistic", "r1_gamma": 1.0, "augment": True, "ema_halflife_kimg": 0.1}),
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
    """A copy that has not trained yet."""
    folder = tmp_path / "dcgan"
    ignored = shutil.ignore_patterns("checkpoints", "mlflow.db", "mlartifacts")
    shutil.copytree(reproduced.folder, folder, ignore=ignored)
    project = Project(folder).warm()
    remove_outs(project)
    project.set(("epochs", "6"), ("ngpu", "0"))
    project.env |= {"OMP_NUM_THREADS": "1", "DCGAN_CHECKPOINT_MINUTES": "0", "DCGAN_TRACKING": "0"}
    return project


def started(project: Project, ranks: int = 2, restarts: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, "--max-restarts", str(restarts), "--nproc-per-node", str(ranks), "-m", "pipeline.train"],
        cwd=project.folder,
        env=project.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def remove_outs(project: Project) -> None:
    shutil.rmtree(project.folder / "checkpoints", ignore_errors=True)
    for name in OUTS:
        (project.folder / name).unlink()


def ranks_of(project: Project, **variables: str) -> list[int]:
    """The process ids of the ranks that have these variables, by number, as they were started the first time."""
    wanted = {"TORCHELASTIC_RESTART_COUNT": "0", **variables}
    found: dict[int, int] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ() if process.cwd() == str(project.folder) else {}
            if "RANK" in environment and wanted.items() <= environment.items():
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
def test_three_ranks_train_track_once_and_give_the_same_bytes_when_one_is_killed(project: Project) -> None:
    """Of three, since a sum of two numbers has no order."""
    project.set(("batch_size", "15"), ("epochs", "12"))
    project.env["DCGAN_TRACKING"] = "1"
    finished(started(project, 3))
    project.env["DCGAN_TRACKING"] = "0"
    expected = {name: project.read(name) for name in OUTS}
    runtime = json.loads(project.read("reports/runtime.json"))["train"]
    assert runtime["ranks"] == 3 and runtime["images_per_second"] > 0
    client = MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'dcgan'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["ranks"] == "3" and run.info.status == "FINISHED"

    remove_outs(project)
    process = started(project, 3)
    wait_for_checkpoint(project, process)
    os.kill(ranks_of(project)[0], signal.SIGKILL)  # the one that writes; of two machines another is killed
    finished(process)
    assert {name: project.read(name) for name in OUTS} == expected


@pytest.mark.long
def test_a_signal_to_all_ranks_saves_and_the_next_run_goes_on(project: Project) -> None:
    project.set(("epochs", "24"))
    project.env["DCGAN_CHECKPOINT_MINUTES"] = "0.02"  # dozens of steps apart
    process = started(project)
    wait_for_checkpoint(project, process)
    before = checkpoints(project)
    for told in (*ranks_of(project), process.pid):
        os.kill(told, signal.SIGTERM)
    process.communicate()
    assert process.returncode != 0 and not (project.folder / "models" / "generator.safetensors").exists()
    saved = checkpoints(project)
    assert before[-1] < saved[-1] < 24 * 3
    finished(started(project))
    interrupted = {name: project.read(name) for name in OUTS}
    remove_outs(project)
    finished(started(project))
    assert {name: project.read(name) for name in OUTS} == interrupted


@pytest.mark.long
def test_ranks_with_other_code_or_data_are_told_apart(project: Project) -> None:
    project.env["DCGAN_CHECKPOINT_MINUTES"] = "2"
    other = project.folder / "pipeline" / "differs.py"
    other.write_text(
        "import os, sys\nfrom pipeline.support import digests\ndigests.code_digest = lambda stage: os.environ['RANK']\n"
        "import runpy\nrunpy.run_module('pipeline.train', run_name='__main__')\n"
    )
    command = [*TORCHRUN, "--max-restarts", "0", "--nproc-per-node", "2", str(other)]
    said = project.run(*command)
    assert said.returncode != 0 and "code: differs between the ranks" in said.stdout, said.stdout


def machine(project: Project, endpoint: str, restarts: int, **env: str) -> subprocess.Popen[str]:
    """One of two machines with a rank each, both of them here."""
    where = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "test")
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            *where,
            "--max-restarts",
            str(restarts),
            "-m",
            "pipeline.train",
        ],
        cwd=project.folder,
        env=project.env | env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def free_endpoint() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.long
def test_two_machines_train_what_one_does_though_a_rank_is_killed(project: Project) -> None:
    endpoint, new_store = free_endpoint(), {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    machines = [machine(project, endpoint, 2, MACHINE=number, **new_store) for number in "01"]
    wait_for_checkpoint(project, machines[0])
    os.kill(ranks_of(project, MACHINE="1")[-1], signal.SIGKILL)
    for process in machines:
        finished(process)
    restarted = {name: project.read(name) for name in OUTS}
    remove_outs(project)
    finished(started(project))
    assert {name: project.read(name) for name in OUTS} == restarted


@pytest.mark.long
def test_two_machines_without_new_stores_are_told_what_to_set(project: Project) -> None:
    endpoint = free_endpoint()
    for process in [machine(project, endpoint, 0) for _ in range(2)]:
        said = process.communicate()[0]
        assert process.returncode != 0
        assert "start torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in said


# What `ngpu: 2` does, with ranks that need no GPU: a stage that launches itself.
STAGE = """
import json, os, sys, time
from pathlib import Path

from pipeline.support.launch_ranks import launch, stop_after_mistake
from pipeline.support.signals import stop_signal
from pipeline.support.stage import run
from dcgan.system import ranks
from dcgan.system.errors import Interrupted, UserError
from dcgan.params import Section

def main(params):
    if not ranks.launched():
        return launch("pipeline.stage_of_two", 2)
    stop_after_mistake()
    stop = stop_signal()
    rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    Path(f"{rank}-{attempt}").touch()
    what = os.environ["WHAT"]
    if what == "mistake":
        raise UserError("lr: it is a mistake.")
    if what == "dies once" and rank + attempt == "10" or what == "dies always" and rank == "1":
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
    assert left == {"0-0", "1-0", "0-1", "1-1"}


@pytest.mark.long
def test_a_mistake_on_the_ranks_is_one_sentence_and_is_not_made_again(launching: Project) -> None:
    status, said, left = launched(launching, "mistake")
    assert status == 1 and said.splitlines()[-1] == "lr: it is a mistake." and "Traceback" not in said, said
    assert left <= {"0-0", "1-0"}


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
