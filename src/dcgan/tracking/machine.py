"""The environment of a run: machine, packages and command."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import psutil

from dcgan.system.processor import cores, processor
from dcgan.tracking.private import hidden

# Environment variables that are logged. All others may contain secrets.
_VARIABLES = (
    "CELEBA_MIRROR", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "DCGAN_CHECKPOINT_MINUTES",
    "DCGAN_GRAPHS", "DCGAN_LAUNCHER", "DCGAN_LOG_INTERVAL", "DCGAN_PROCESSES", "DVC_EXP_BASELINE_REV", "DVC_EXP_NAME",
    "OMP_NUM_THREADS",
)  # fmt: skip


def machine() -> dict[str, str]:
    """MLflow tags that describe the machine, the command and the environment; secrets are removed."""
    return {
        "command": _command(),
        "environment": json.dumps({name: hidden(os.environ[name]) for name in _VARIABLES if name in os.environ}),
        "python": platform.python_version(),
        "host": platform.node(),
        "processor": processor(),
        "cores": str(cores()),
        "memory_gb": str(round(psutil.virtual_memory().total / 1e9)),
        **{name: importlib.metadata.version(name) for name in ("dvc", "mlflow", "torchvision")},
        "mlflow.user": _user(),
    }


def packages() -> str:
    """All installed packages with versions, in the format of requirements.txt."""
    about = [each.metadata for each in importlib.metadata.distributions()]  # each access parses the metadata
    names = {f"{each['Name']}=={each['Version']}\n" for each in about}
    return "".join(sorted(names, key=str.lower))


def _command() -> str:
    """The `dvc` command that started this process, or the command of this process."""
    own = psutil.Process()
    commands = [own.cmdline()]
    with contextlib.suppress(psutil.Error):  # the process belongs to another user or has just ended
        for process in own.parents():
            commands.append(process.cmdline())
    for words in commands:
        at = next((i for i, word in enumerate(words[:3]) if Path(word).name == "dvc"), None)
        if at is not None:
            return hidden(" ".join(["dvc", *words[at + 1 :]]))
    return hidden(" ".join([Path(commands[0][0]).name, *commands[0][1:]]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        return str(os.getuid())
