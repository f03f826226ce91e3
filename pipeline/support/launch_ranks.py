"""A stage on several GPUs of this machine: torchrun's launcher, ending as every stage ends."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from pathlib import Path

from support import stage

from dcgan.system.errors import Interrupted, UserError
from dcgan.system.processor import cores

SECONDS_TO_SAVE = 120  # after a signal; then the ranks are killed
MAX_RESTARTS = 3  # of all ranks, from the newest checkpoint, when one of them has died


def launch(script: Path, processes: int) -> None:
    """Runs `script` as ranks 0 to `processes` - 1, and again when one of them dies.

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
    with tempfile.TemporaryDirectory() as folder:
        os.environ[stage.SENTENCES] = folder
        try:
            elastic_launch(config, sys.executable)("-u", str(script))
        except SignalException as error:
            raise Interrupted(int(error.sigval)) from None
        except ChildFailedError as error:
            if sentences := _sentences():
                raise UserError(sentences[0].read_text()) from None
            code = error.get_first_failure()[1].exitcode
            sys.exit(
                f"{script.stem}: a process ended with status {code} more than {MAX_RESTARTS} times; its error is above."
            )
        finally:
            del os.environ[stage.SENTENCES]


def stop_when_told() -> None:
    """A rank that is started again after a mistake of the user's would make it again."""
    if _sentences():
        sys.exit(1)


def _sentences() -> list[Path]:
    """What the ranks have left, the first of them first."""
    folder = os.environ.get(stage.SENTENCES)
    return sorted(Path(folder).glob("[0-9]*")) if folder else []  # a file that is being written begins with a dot
