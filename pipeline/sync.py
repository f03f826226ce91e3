"""Tells MLflow what it has not been told: what is in the spool, and a result that DVC restored.

No stage: `python -m dcgan sync` runs it.
"""

import json
import subprocess
import sys
import threading

from record import record_evaluation, record_samples
from stage import GENERATOR, MAIN_ROOT, ROOT, run

from dcgan.errors import UserError
from dcgan.params import Section
from dcgan.tracking import events
from dcgan.tracking.sender import send_until
from dcgan.tracking.spool import Spool


def main(params: Section) -> None:
    spool, ended = events.spool_of(MAIN_ROOT), threading.Event()
    ended.set()
    waiting = len(spool)
    if not send_until(ended, spool, MAIN_ROOT):
        raise UserError(f"sync: {len(spool)} events are still unsent; start the tracking server, then run it again.")
    print(f"{waiting} events were unsent; MLflow has been told, but for those that a warning above names.")
    for other in sorted((MAIN_ROOT / events.SPOOL).glob("*/unsent.jsonl")):
        if other != spool.path and (count := len(Spool(other.parent))):
            print(f"{other}: {count} events wait for another store; name it with MLFLOW_TRACKING_URI and sync again.")
    if not GENERATOR.exists():
        return
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=ROOT, capture_output=True, text=True)
    changed = json.loads(status.stdout) if status.returncode == 0 else {"dvc.lock": []}
    if changed:
        raise UserError(
            f"sync: what is here is not what dvc.lock says ({', '.join(changed)}); run `dvc repro` or `dvc checkout`."
        )
    record_samples()
    record_evaluation("report")
    if len(spool):
        raise UserError("sync: MLflow could not be told all; run it again.")
    print("MLflow knows the result that is here.")


if __name__ == "__main__":
    run(Section, main)
