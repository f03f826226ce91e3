"""The processes of a stage's ranks: started on this machine, or by the command in DCGAN_LAUNCHER, and waited for."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

from dcgan.system.errors import UserError
from dcgan.system.processor import cores
from pipeline.support.dvc_files import ROOT
from pipeline.support.rank_file import TORCHRUN

LAUNCHER = "DCGAN_LAUNCHER"  # environment variable with the command that starts the ranks
SECONDS_TO_SAVE = 120  # time for the ranks to save after a signal
_SECONDS_TO_END = 10  # time for the others to end after one has failed; then they are killed
_NEW_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # lets torchrun's ranks meet again after a restart


def start(program: list[str], count: int | None) -> list[subprocess.Popen[bytes]]:
    """Starts `python PROGRAM` as `count` ranks here, or with the launcher, which decides how many it starts.

    Raises:
        UserError: the launcher cannot be run.
    """
    environment = {name: value for name, value in os.environ.items() if name not in (*TORCHRUN, "MASTER_ADDR")}
    if command := shlex.split(os.environ.get(LAUNCHER, "")):
        names = {Path(word).name for word in command}
        takes_module = names & {"torchrun", "torch.distributed.run"} and "--no-python" not in names
        started = [([*command, *([] if takes_module else [sys.executable]), *program], _NEW_STORE | environment)]
    else:
        assert count
        environment = {"OMP_NUM_THREADS": str(max(1, cores() // count))} | environment
        ranks = [zip(TORCHRUN, (str(rank), str(count), str(rank)), strict=True) for rank in range(count)]
        started = [([sys.executable, *program], environment | dict(rank)) for rank in ranks]
    try:  # in sessions of their own, since Ctrl-C is for the stage, which passes it on
        return [subprocess.Popen(words, env=env, cwd=ROOT, start_new_session=True) for words, env in started]
    except OSError as error:
        raise UserError(f"{LAUNCHER}: cannot run {command[0]} ({error.strerror}); correct the variable.") from None


def wait(processes: list[subprocess.Popen[bytes]], stop: Callable[[], int | None], to_ranks: Path) -> int:
    """Waits until all processes have ended, or one has failed; then ends the others.

    Args:
        stop: returns the signal that the stage has received, if any.
        to_ranks: the file that the ranks watch for it, since not every launcher passes signals on to them.

    Returns:
        0, or the status of the process that failed first; negative if a signal killed it.
    """
    deadline = math.inf
    while time.monotonic() < deadline:
        states = [process.poll() for process in processes]
        if None not in states or (any(states) and deadline == math.inf):
            break
        if deadline == math.inf and (signal := stop()):
            to_ranks.write_text(str(signal))
            deadline = time.monotonic() + SECONDS_TO_SAVE
        time.sleep(0.1)
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, SIGKILL)
    return next((state for state in (*states, *(process.wait() for process in processes)) if state), 0)
