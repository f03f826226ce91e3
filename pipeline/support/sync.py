"""Logs what MLflow lacks: runs that wait in the spool, and a result that DVC restored from its cache.

This is not a stage; `python -m dcgan sync` runs it.
"""

import json
import subprocess
import sys

from dcgan.schema import Section
from dcgan.system.errors import UserError
from dcgan.system.project_files import GENERATOR
from dcgan.tracking.run_folder import OWN, SPOOL, spool_of, tracking_is_on, waiting
from dcgan.tracking.sender import send
from pipeline.support.dvc_files import ROOT
from pipeline.support.record import describe_evaluation, describe_samples
from pipeline.support.stage import MAIN_ROOT, run


def main(params: Section) -> None:
    if not tracking_is_on():
        raise UserError("DCGAN_TRACKING: 0 is not allowed here, since sync logs to MLflow; unset it.")
    spool = spool_of(MAIN_ROOT)
    print(f"Runs that were not logged completely: {len(waiting(spool))}")
    _send()
    for other in sorted((MAIN_ROOT / SPOOL).glob("*")):
        if other != spool and (count := len(waiting(other))):
            own = other == MAIN_ROOT / SPOOL / OWN
            where = "this project's mlflow.db; unset MLFLOW_TRACKING_URI" if own else "another store; set it"
            print(f"{other}: runs wait for {where} and run `dcgan sync` again ({count}).")
    if not GENERATOR.exists():
        return
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=ROOT, capture_output=True, text=True)
    if status.returncode:
        raise UserError(f"sync: dvc status failed: {' '.join(status.stderr.split())[-300:]}")
    if changed := json.loads(status.stdout):
        raise UserError(
            f"sync: these stages are not up to date: {', '.join(changed)}; run `dvc repro`, or `dvc checkout`."
        )
    describe_samples()
    describe_evaluation("report")
    _send()
    print("The result in this folder is logged to MLflow.")


def _send() -> None:
    if not send(MAIN_ROOT):
        raise UserError("sync: not all runs were logged, for the reason above; fix it and sync again.")


if __name__ == "__main__":
    run(Section, main)
