"""Part of `make bench`: what tracking costs a training, and what a tracking server does that is killed five times.

    python benchmarks/tracking_cost.py --epochs 4 --rounds 3

The default training on data/faces, cut short. First without tracking and with it into SQLite, on all cores. Then told
to a server that lives, and to one that is killed five times and started again: the server has the last core to itself,
as if it were another machine, and the training with all that tells of it has the others. The sides alternate; medians
of the ratios. Where other work disturbs the clock by more than tracking costs, look at what is counted: the seconds
that the training itself spent in telling, and those of processor time that the sender took beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from dcgan import networks, params
from dcgan.data import images
from dcgan.system import hardware
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, Description, spool_of, texts
from dcgan.tracking.sender import sending
from dcgan.training import curves, loop
from dcgan.training.checkpoint import CheckpointStore
from dcgan.training.step import Recipe

ROOT = Path(__file__).resolve().parent.parent
KILLS = 5
CORES = sorted(os.sched_getaffinity(0))  # Linux
ALONE, TRACKED, SERVED, KILLED = "without tracking", "into SQLite", "to a server", "to a server that is killed"


class Watched:
    """An observer that counts the seconds that another takes."""

    def __init__(self, observer: loop.Observer) -> None:
        self._observer = observer
        self.seconds = 0.0

    def _timed(self, tell: Callable[[], None]) -> None:
        start = time.perf_counter()
        tell()
        self.seconds += time.perf_counter() - start

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._timed(lambda: self._observer.metrics(step, values))

    def grid(self, step: int, sheet: images.Pixels) -> None:
        self._timed(lambda: self._observer.grid(step, sheet))


def train(root: Path, epochs: int, interval: int, tracked: bool) -> dict[str, Any]:
    """Trains, and says what it took: in seconds the training, its telling, what was told after its end, and the
    processor time of the sender; and the steps that a curve has."""
    hardware.prepare()
    values = params.load(ROOT / "params.yaml").model_copy(update={"epochs": epochs})
    settings, recipe = values.part(networks.Settings), values.part(Recipe)
    faces = images.open_faces(ROOT / "data" / "faces", "train")
    machine = hardware.resolve("auto", "auto")
    with contextlib.ExitStack() as held, tempfile.TemporaryDirectory() as folder:
        observer: loop.Observer = loop.Nobody()
        start = time.perf_counter()
        if tracked:
            about = Description({FINGERPRINT: "benchmark"}, "benchmark", texts(values.model_dump()))
            run = Run(spool_of(root), about)
            held.enter_context(sending(root, load_of=run.folder))
            observer = held.enter_context(run.open())
        store = CheckpointStore(Path(folder), "benchmark")
        watched = Watched(observer)
        result = loop.train(
            faces, settings, recipe, machine, store, watched, lambda: None, log_interval=interval
        )  # fmt: skip
        trained = time.perf_counter()
    told = time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # the sender is the only one
    return {
        "seconds": trained - start,
        "afterwards": told - trained,
        "telling": watched.seconds,
        "sender": used.ru_utime + used.ru_stime,
        "steps": [step for step, _ in curves.points(result.history, interval)],
    }


@contextlib.contextmanager
def server(root: Path, kills: int, seconds: float) -> Iterator[str]:
    """The address of a tracking server on the last core, killed so often within so many seconds and started again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ["taskset", "-c", str(CORES[-1]), sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", port, "--workers", "1", "--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(root / "files")]
    ready, over = threading.Event(), threading.Event()
    killed = 0

    def live() -> None:
        nonlocal killed
        while True:
            with (root / "server.log").open("a") as log:
                process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
            ready.wait()
            ended = over.wait(seconds / (kills + 1)) if killed < kills else over.wait()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if ended:
                return
            killed += 1

    thread = threading.Thread(target=live)
    thread.start()
    try:
        while True:  # the first start is no part of what is measured
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.1)
        ready.set()
        yield f"http://127.0.0.1:{port}"
    finally:
        ready.set()
        over.set()
        thread.join()
        if kills:
            print(f"  killed {killed} times")


def side(name: str, epochs: int, interval: int, expected: float = 0.0) -> float:
    """Seconds of the training, in a process of its own, within the `expected` of which a server is killed.

    What it told is looked at.
    """
    served = name in (SERVED, KILLED)
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        root = Path(folder)
        if name != ALONE:  # to make the database takes two seconds, once for a project
            MlflowClient(f"sqlite:///{root / 'mlflow.db'}").search_experiments()
        command = [sys.executable, __file__, "--epochs", str(epochs), "--interval", str(interval)]
        command += ["--train", str(root)] if name != ALONE else ["--train", str(root), "--untracked"]
        if served:
            address = held.enter_context(server(root, KILLS if name == KILLED else 0, expected))
            environment["MLFLOW_TRACKING_URI"] = address
            command = ["taskset", "-c", ",".join(map(str, CORES[:-1])), *command]
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        took = json.loads(said.splitlines()[-1])  # after what MLflow says of the run
        print(f"{name}: {took['seconds']:.1f} s, and {took['afterwards']:.1f} s until all was told", flush=True)
        if name == ALONE:
            return float(took["seconds"])
        cores = len(CORES) - served
        telling, sender = took["telling"] / took["seconds"], took["sender"] / took["seconds"] / cores
        print(f"  telling took {100 * telling:.3f} % of the time, the sender {100 * sender:.2f} % of the processor")
        client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
        (run,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "dcgan"])
        found = [point.step for point in client.get_metric_history(run.info.run_id, "loss/d_loss")]
        same = "the same" if found == took["steps"] else "NOT the same"
        print(f"  points: {len(found)} of {len(took['steps'])}, {same} steps", flush=True)
        return float(took["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--interval", type=int, default=50, help="steps between two points")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cost", "kills"])
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--untracked", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(options.train, options.epochs, options.interval, not options.untracked)))
        return
    pairs = {"cost": (ALONE, TRACKED), "kills": (SERVED, KILLED)}
    for what in [options.only] if options.only else pairs:
        if what == "kills" and len(CORES) < 2:
            sys.exit("The killed server needs a core of its own: two cores at least.")
        first, second = pairs[what]
        ratios = []
        for _ in range(options.rounds):
            undisturbed = side(first, options.epochs, options.interval)
            ratios.append(side(second, options.epochs, options.interval, undisturbed) / undisturbed)
        cost = statistics.median(ratios) - 1
        print(f"{second}: {100 * cost:+.2f} % of the time {first} (median of {options.rounds})", flush=True)


if __name__ == "__main__":
    main()
