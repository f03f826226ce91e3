"""How long MLflow's table of runs takes to open in Chromium, in a store of many runs.

    python benchmarks/runs_table.py --runs 200 --points 2000

The runs are told to MLflow as the pipeline tells them, into a new SQLite store; a browser's first load is left out.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from dcgan import params
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, GENERATOR_SHA256, Description, spool_of, texts
from dcgan.tracking.sender import send
from dcgan.tracking.store import connect
from dcgan.training.step import COLUMNS

ROOT = Path(__file__).resolve().parent.parent


def fill(root: Path, runs: int, points: int) -> str:
    """Tells MLflow of so many runs, each with so many points in all; returns the experiment's id."""
    spool = spool_of(root)
    values = texts(params.load(ROOT / "params.yaml").model_dump())
    for number in range(runs):
        identity, tags = {FINGERPRINT: str(number)}, {GENERATOR_SHA256: str(number)}
        about = Description(identity, f"run-{number}", values | {"seed": str(number)}, opened_with=tags)
        with Run(spool, about).open() as run:
            for step in range(1, points // len(COLUMNS) + 1):
                run.metrics(step, dict.fromkeys(COLUMNS, 1 / (step + number)))
            run.metrics(0, {"frechet_distance": 400.0 + number})
    assert send(root)
    return connect(root)[1]


def loads(root: Path, experiment: str, last: str, times: int) -> list[float]:
    """Seconds from opening the table until it shows the run `last`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", port, "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1600, "height": 1200})
            seconds = []
            for _ in range(times + 1):
                page.goto("about:blank")
                start = time.perf_counter()
                page.goto(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs")
                page.get_by_role("link", name=last, exact=True).first.wait_for()
                seconds.append(time.perf_counter() - start)
            browser.close()
            return seconds[1:]
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--loads", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        experiment = fill(Path(folder), arguments.runs, arguments.points)
        print(f"{arguments.runs} runs of {arguments.points} points were told in {time.perf_counter() - start:.1f} s")
        seconds = loads(Path(folder), experiment, f"run-{arguments.runs - 1}", arguments.loads)
    print(f"the table opened in {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
