"""What a run was computed with: the machine, the packages, the command."""

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
from dcgan.tracking.private import command_line, environment

_VARIABLES = ("DCGAN_", "DVC_", "OMP_", "CUDA_", "CELEBA_")


def machine() -> dict[str, str]:
    """Tags for MLflow; secrets are taken out."""
    return {
        "command": _command(),
        "environment": json.dumps(environment(os.environ, _VARIABLES)),
        "python": platform.python_version(),
        "host": platform.node(),
        "processor": processor(),
        "cores": str(cores()),
        "memory_gb": str(round(psutil.virtual_memory().total / 1e9)),
        **{name: importlib.metadata.version(name) for name in ("dvc", "mlflow", "torchvision")},
        "mlflow.user": _user(),
    }


def packages() -> str:
    """All that is installed, as a file of requirements."""
    about = [each.metadata for each in importlib.metadata.distributions()]  # parsed at each access
    names = {f"{each['Name']}=={each['Version']}\n" for each in about}
    return "".join(sorted(names, key=str.lower))


def _command() -> str:
    """The `dvc` command that started this process, or the process's own."""
    own = psutil.Process()
    commands = [own.cmdline()]
    with contextlib.suppress(psutil.Error):  # of a process that is not ours, or has just ended
        for process in own.parents():
            commands.append(process.cmdline())
    for words in commands:
        at = next((i for i, word in enumerate(words[:3]) if Path(word).name == "dvc"), None)
        if at is not None:
            return command_line(["dvc", *words[at + 1 :]])
    return command_line([Path(commands[0][0]).name, *commands[0][1:]])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container, whose user may have no name
        return str(os.getuid())
