"""Part of `make bench`: what tracking costs a training, and what a tracking server costs it that is killed five times.

    python benchmarks/tracking_cost.py --epochs 4 --rounds 3

The default training on data/faces, cut short: without tracking, with it into SQLite, and with it to a server on this
machine that is killed five times and started again. The server shares the processor, so the training without tracking
that the last is compared with has such a server beside it too. The sides alternate; medians of the ratios. Where other
work disturbs the clock by more than tracking costs, look at what is counted: the seconds that the training itself spent
in telling, and those of processor time that the sender took beside it.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow import MlflowClient

from dcgan import hardware, images, networks, params, trainer, training
from dcgan.checkpoint import CheckpointStore
from dcgan.tracking import events

ROOT = Path(__file__).resolve().parent.parent
KILLS = 5
CORES = len(os.sched_getaffinity(0))


class Watched:
    """An observer that counts the seconds that another takes."""

    def __init__(self, observer: training.Observer) -> None:
        self._observer = observer
        self.seconds = 0.0

    def _timed(self, tell: Callable[[], None]) -> None:
        start = time.perf_counter()
        tell()
        self.seconds += time.perf_counter() - start

    def losses(self, step: int, values: dict[str, float]) -> None:
        self._timed(lambda: self._observer.losses(step, values))

    def grid(self, step: int, sheet: images.Pixels) -> None:
        self._timed(lambda: self._observer.grid(step, sheet))

    def measured(self, step: int, values: dict[str, float]) -> None:
        self._timed(lambda: self._observer.measured(step, values))


def processor_seconds() -> float:
    """Of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def train(root: Path, epochs: int, tracked: bool) -> tuple[float, float, list[int]]:
    """Seconds of the training, seconds until its end is told, and the steps that a curve has."""
    values = params.load(ROOT / "params.yaml").model_dump() | {"epochs": epochs}
    settings = networks.Settings(**{name: values[name] for name in networks.Settings.__dataclass_fields__})
    recipe = trainer.Recipe(**{name: values[name] for name in trainer.Recipe.__dataclass_fields__})
    faces = images.open_split(ROOT / "data" / "faces", "train")
    machine = hardware.resolve("auto", "auto")
    with contextlib.ExitStack() as held, tempfile.TemporaryDirectory() as folder:
        observer: training.Observer = training.Nobody()
        start = time.perf_counter()
        if tracked:
            spool = held.enter_context(events.sending(root, {events.FINGERPRINT: "benchmark"}))
            observer = run = events.Run(spool, {events.FINGERPRINT: "benchmark"})
            held.enter_context(run.ended())
            run.open("benchmark", values, {})
        store = CheckpointStore(Path(folder), "benchmark")
        watched, before = Watched(observer), processor_seconds()
        result = training.train(faces, settings, recipe, machine, store, watched, lambda: None)
        trained = time.perf_counter()
    told = time.perf_counter()
    if tracked and "MLFLOW_TRACKING_URI" not in os.environ:  # a server would count among the children
        share = (processor_seconds() - before) / (trained - start) / CORES
        telling = watched.seconds / (trained - start)
        print(f"  telling took {100 * telling:.3f} % of the time, the sender {100 * share:.2f} % of the processor")
    return trained - start, told - trained, [step for step, _ in training.points(result.history, 50)]


@contextlib.contextmanager
def killed_server(root: Path, seconds: float) -> Iterator[str]:
    """The address of a tracking server that is killed KILLS times within so many seconds, and started again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{root / 'mlflow.db'}",
        "--artifacts-destination",
        str(root / "files"),
    ]
    over = threading.Event()
    killed = 0

    def live() -> None:
        nonlocal killed
        while True:
            with (root / "server.log").open("a") as log:
                server = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
            ended = over.wait(seconds / (KILLS + 1)) if killed < KILLS else over.wait()
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            if ended:
                return
            killed += 1

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        over.set()
        thread.join()
        print(f"killed {killed} times")


def side(name: str, epochs: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        root = Path(folder)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if "server" in name:
            MlflowClient(f"sqlite:///{root / 'mlflow.db'}").search_experiments()  # its first use takes long
            os.environ["MLFLOW_TRACKING_URI"] = held.enter_context(killed_server(root, seconds))
        trained, told, steps = train(root, epochs, tracked="tracked" in name)
        print(f"{name}: {trained:.1f} s, and {told:.1f} s until all was told", flush=True)
        if "tracked" in name:
            client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
            (run,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "dcgan"])
            found = [point.step for point in client.get_metric_history(run.info.run_id, "d_loss")]
            print(f"  points: {len(found)} of {len(steps)}, {'the same' if found == steps else 'NOT the same'} steps")
        return trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    hardware.prepare()
    names = ("alone", "tracked", "alone beside a killed server", "tracked by a killed server")
    rounds = []
    for _ in range(arguments.rounds):
        seconds: dict[str, float] = {}
        for name in names:
            seconds[name] = side(name, arguments.epochs, seconds.get("alone", 0.0))
        rounds.append(seconds)
    for tracked, alone in ((names[1], names[0]), (names[3], names[2])):
        cost = statistics.median(each[tracked] / each[alone] - 1 for each in rounds)
        print(f"{tracked}: {100 * cost:+.2f} % of the time without ({alone})")


if __name__ == "__main__":
    main()
