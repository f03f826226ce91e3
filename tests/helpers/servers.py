"""Real servers on loopback, for as long as a test needs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], alive: str, cwd: Path, env: Mapping[str, str] | None = None, end: int = signal.SIGTERM
) -> Iterator[None]:
    """A server around the block, which begins when the address `alive` answers; `end` is the signal that stops it."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(alive, timeout=5)
                break
            except OSError:
                time.sleep(0.05)  # polls; the test's own time limit bounds it
        assert process.poll() is None, f"{command[0]} ended"
        yield
    finally:
        os.killpg(process.pid, end)
        process.wait()


def mlflow_server(root: Path, port: int) -> AbstractContextManager[None]:
    """A tracking server with its files in `root`, killed at the end of the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(root / "files")]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes, for language models
    return running(command, f"http://127.0.0.1:{port}/health", root, env, signal.SIGKILL)
