"""Checks that a process may work: as a rank that its stage has started, or alone."""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path

from dcgan.system.errors import UserError
from pipeline.support.inputs import RANK_FILE, STAGE
from pipeline.support.rank_file import LAUNCHERS, TORCHRUN, launcher_of

logger = logging.getLogger(__name__)


def check_rank(file: Path, count: int | None) -> None:
    """Checks that this process knows the other ranks, and that there are `count`.

    Raises:
        UserError: it does not, or there are more or fewer.
    """
    file.with_name("started").touch()
    if launcher_of(os.environ) is None:
        known = ", ".join(names[0] for names in LAUNCHERS)
        raise UserError(f"DCGAN_LAUNCHER: it sets none of {known} for its processes; give torchrun, mpirun or srun.")
    if "MASTER_ADDR" not in os.environ:
        where = ", ".join(json.loads(file.read_bytes())["addresses"])
        raise UserError(
            f"{socket.gethostname()}: it cannot reach the stage at {where}; let the machines connect freely."
        )
    if count and count != int(os.environ["WORLD_SIZE"]):
        started = os.environ["WORLD_SIZE"]
        raise UserError(
            f"ranks: params.yaml asks for {count}, but DCGAN_LAUNCHER started {started}; give ranks: {started}, or "
            f"start {count}."
        )


def check_starter() -> None:
    """Warns if DVC has not started this stage, and refuses to work as one of several processes that no stage has.

    Raises:
        UserError: the process is one of several, which would all write the same outs.
    """
    if RANK_FILE:
        return
    names = launcher_of(os.environ)
    if names and os.environ[names[1]] != "1":
        raise UserError(
            f"pipeline.{STAGE}: this is one of {os.environ[names[1]]} processes that no stage has started; run "
            "`dvc repro` once, with DCGAN_LAUNCHER set to the command that starts them."
        )
    for name in TORCHRUN:  # which only ranks have from here on
        os.environ.pop(name, None)
    if "DVC_STAGE" not in os.environ:
        logger.warning(
            "DVC will not know of this result, since it has not started the stage; run `dvc repro %s`", STAGE
        )
