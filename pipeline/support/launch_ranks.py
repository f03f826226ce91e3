"""A stage on several GPUs of this machine: torchrun's launcher, ending as every stage ends."""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path

from dcgan.system.errors import Interrupted, UserError
from dcgan.system.processor import cores
from pipeline.support.stage import ERROR_FILE

SECONDS_TO_SAVE = 120  # after a signal; then the ranks are killed
MAX_RESTARTS = 3  # of all ranks, from the newest checkpoint, when one of them has died


def launch(module: str, processes: int) -> None:
    """Runs `module` as ranks 0 to `processes` - 1, and again when one of them dies.

    Raises:
        UserError: what a rank's UserError said.
        Interrupted: SIGINT or SIGTERM came; the ranks were given the time to save.
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
    try:
        elastic_launch(config, sys.executable)("-u", "-m", module)
    except SignalException as error:
        raise Interrupted(int(error.sigval)) from None
    except ChildFailedError as error:
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        for failure in failures:
            if "timestamp" in failure.error_file_data:  # or it left no file
                raise UserError(failure.message) from None
        sys.exit(
            f"{module}: a process ended with status {failures[0].exitcode} more than {MAX_RESTARTS} times; its error "
            "is above."
        )


def stop_after_mistake() -> None:
    """A rank that torchelastic starts again after a mistake of the user's would make it again.

    Raises:
        UserError: what the mistake was.
    """
    if file := os.environ.get(ERROR_FILE):  # .../attempt_N/RANK/error.json
        for earlier in sorted(Path(file).parents[2].glob("attempt_*/*/error.json")):
            raise UserError(json.loads(earlier.read_bytes())["message"])
