"""Tells MLflow what it has not been told: what is in the spool, and a result that DVC restored.

No stage: `python -m dcgan sync` runs it.
"""

import json
import os
import subprocess
import sys
import threading

from support.record import record_evaluation, record_samples
from support.stage import GENERATOR, MAIN_ROOT, ROOT, run

from dcgan.params import Section
from dcgan.system.errors import UserError
from dcgan.tracking import events
from dcgan.tracking.sender import send_until
from dcgan.tracking.spool import Spool


def main(params: Section) -> None:
    if os.environ.get("DCGAN_TRACKING") == "0":
        raise UserError("DCGAN_TRACKING: 0 is not allowed here, since sync logs to MLflow; unset it.")
    spool, ended = events.spool_of(MAIN_ROOT), threading.Event()
    ended.set()
    waiting = len(spool)
    if not send_until(ended, spool, MAIN_ROOT):
        raise UserError(f"sync: {len(spool)} events are not logged, for the reason above; mend that and sync again.")
    print(f"Logged {waiting} events to MLflow, except those that a warning above names.")
    for other in sorted((MAIN_ROOT / events.SPOOL).glob("*/unsent.jsonl")):
        if other != spool.path and (count := len(Spool(other.parent))):
            print(f"{other}: {count} events are for another store; name it with MLFLOW_TRACKING_URI and sync again.")
    if not GENERATOR.exists():
        return
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=ROOT, capture_output=True, text=True)
    if status.returncode:
        raise UserError(f"sync: dvc status failed: {' '.join(status.stderr.split())[-300:]}")
    if changed := json.loads(status.stdout):
        raise UserError(
            f"sync: what is here is not what dvc.lock says ({', '.join(changed)}); run `dvc repro` or `dvc checkout`."
        )
    record_samples()
    record_evaluation("report")
    if not send_until(ended, spool, MAIN_ROOT):
        raise UserError("sync: not all is logged, for the reason above; mend that and sync again.")
    print("The result in this folder is logged to MLflow.")


if __name__ == "__main__":
    run(Section, main)
