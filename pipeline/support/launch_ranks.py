"""Runs a stage as several ranks on this machine with torchrun's launcher, with the usual exit behaviour of a stage."""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path

from dcgan.system.errors import Interrupted, UserError
from dcgan.system.processor import cores
from pipeline.support.inputs import TAKEN
from pipeline.support.stage import ERROR_FILE

SECONDS_TO_SAVE = 120  # time for the ranks to save after a signal; then they are killed
MAX_RESTARTS = 3  # after a rank has died, all ranks restart from the newest checkpoint


def launch(module: str, processes: int) -> None:
    """Runs `module` as ranks 0 to `processes` - 1; restarts all ranks when one of them dies.

    Raises:
        UserError: a rank ended with a UserError; the message is the same.
        Interrupted: SIGINT or SIGTERM was received; the ranks had SECONDS_TO_SAVE to save.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        max_restarts=MAX_RESTARTS,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        shutdown_timeout=SECONDS_TO_SAVE,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    if TAKEN:
        TAKEN.hand_on()
    try:
        elastic_launch(config, sys.executable)("-u", "-m", module)
    except SignalException as error:
        raise Interrupted(int(error.sigval)) from None
    except ChildFailedError as error:
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        for failure in failures:
            if "timestamp" in failure.error_file_data:  # missing if the rank left no error file
                raise UserError(failure.message) from None
        sys.exit(
            f"{module}: gave up after {MAX_RESTARTS} restarts; the last process to fail ended with status "
            f"{failures[0].exitcode}; see above for its error, and run the command again."
        )


def stop_after_mistake() -> None:
    """Ends a rank that torchelastic restarted after a mistake of the user, since the rank would only fail again.

    Raises:
        UserError: an earlier attempt ended with a mistake of the user; the message is the same.
    """
    if file := os.environ.get(ERROR_FILE):  # .../attempt_N/RANK/error.json
        for earlier in sorted(Path(file).parents[2].glob("attempt_*/*/error.json")):
            raise UserError(json.loads(earlier.read_bytes())["message"])
