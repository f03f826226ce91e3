"""The file by which a stage hands on to its ranks what they need, whatever starts them and on whichever machine.

It is in the project's folder, which all machines share; its path is the last word of the ranks' command.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from dcgan.system.interfaces import addresses
from pipeline.support.inputs import RANK_FILE, Inputs

# The rank, the number of ranks and the rank on its machine, in the environment variables of each launcher.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
LAUNCHERS = (
    TORCHRUN,
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),  # MPICH, Intel MPI
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),  # srun
)
# Environment variables that Open MPI would not pass to other machines. The file's folder is its owner's alone.
_PASSED_ON = ("DCGAN_", "DVC_EXP_", "MLFLOW_", "AWS_", "GLOO_", "NCCL_", "OMP_NUM_THREADS", "TORCH_CPP_LOG_LEVEL")
_SECONDS = 10  # to wait for an answer from the stage at one of its addresses


def write(file: Path, inputs: Inputs, port: int) -> None:
    """Writes the file of ranks that start now.

    Args:
        inputs: what the stage has taken in; the ranks compare with it.
        port: port of the stage's store, at which the ranks meet.
    """
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    content = {"inputs": asdict(inputs), "variables": passed, "addresses": addresses(), "port": port}
    file.write_text(json.dumps(content))


def launcher_of(environment: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The names in LAUNCHERS of the launcher that started the process with this environment; None if none did."""
    return next((names for names in LAUNCHERS if set(names) <= set(environment)), None)


def become_rank() -> None:
    """Sets the environment of a process that a stage has started as a rank; called before torch is imported.

    The variables are those that torchrun sets. They are incomplete if the launcher is unknown, or if the stage cannot
    be reached; see `launch_ranks`.
    """
    if RANK_FILE is None:
        return
    content = json.loads(RANK_FILE.read_bytes())
    os.environ |= content["variables"] | os.environ
    if names := launcher_of(os.environ):
        os.environ |= {name: os.environ[own] for name, own in zip(TORCHRUN, names, strict=True)}
    if "MASTER_ADDR" in os.environ:  # by torchrun
        return
    os.environ |= {"MASTER_PORT": str(content["port"]), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for address in content["addresses"]:
        with suppress(OSError), socket.create_connection((address, content["port"]), timeout=_SECONDS):
            os.environ["MASTER_ADDR"] = address
            return
