"""Interpreters that have imported the large libraries already, for tests that start dozens of them.

Such a test would spend most of its time on imports of torch and MLflow. Everything of the project itself is imported
in the fork, and the interpreter that was started stays in front of it: signals go through it, and its death is the
fork's. `COLD_PYTHON=1` runs all tests without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "warm_python"
_SERVER = """
import atexit, gc, json, logging, os, runpy, select, signal, socket, sys, threading, traceback

import matplotlib.pyplot, pandas, PIL.Image, psutil, pyarrow.parquet, pydantic, ruamel.yaml, safetensors.torch, tqdm
import alembic, efficientnet_lite_pytorch, filelock, gdown, git, isal.isal_zlib, jinja2, requests, simplejpeg, yaml
import torch.distributed.elastic.multiprocessing.api, torch.distributed.launcher.api, torch.nn.parallel
import torch.distributed.elastic.rendezvous.c10d_rendezvous_backend, torch.nn.utils.fusion
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.tracking, mlflow.system_metrics.metrics.gpu_monitor
import mlflow.store.model_registry.sqlalchemy_store, mlflow.pyfunc, mlflow.pytorch, mlflow.utils.requirements_utils
import torch.export._trace
import dvc.cli.parser, dvc.repo.reproduce, dvc.repo.index, dvc.repo.plots, dvc.repo.artifacts, dvc.utils.hydra
import dvc.repo.experiments.queue.celery, dvc.repo.experiments.show, dulwich.porcelain, dvc_task.app

logging.root.handlers.clear()  # some library has set one up, and then a stage could not
logging.root.setLevel(logging.WARNING)
mlflow.utils.requirements_utils._init_modules_to_packages_map()  # which a model's requirements are looked up in

def request(listening):
    "The next request, in a fork that is to do it."
    while True:
        if sys.stdin.fileno() in select.select([listening, sys.stdin.fileno()], [], [])[0]:
            os._exit(0)  # the tests have ended
        asking, _ = listening.accept()
        if os.fork():
            asking.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, standard, _, _ = socket.recv_fds(asking, 1, 3)
        answers = asking.makefile("rw")
        request = json.loads(answers.readline())
        child = os.fork()
        if child:
            for descriptor in standard:
                os.close(descriptor)
            os.close(0), os.close(1), os.close(2)
            answers.write(f"{child}\\n")
            answers.flush()
            ended = os.pidfd_open(child)
            if ended not in select.select([asking, ended], [], [])[0]:
                os.kill(child, signal.SIGKILL)  # as was the one that asked
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            try:
                answers.write(f"{status}\\n")
                answers.flush()
            finally:
                os._exit(0)
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
            os.close(descriptor)
        answers.close(), asking.close(), listening.close()
        return request

with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(sys.argv[1])
    listening.listen(100)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()  # a collection in a fork, as at its end, would copy all memory
    os.write(1, b"ready")
    wanted = request(listening)
os.chdir(wanted["folder"])
os.environ.clear()
os.environ.update(wanted["environment"])
words, safe = wanted["words"], "-P" in wanted["options"]
sys.orig_argv = [sys.executable, *wanted["options"], *words]
paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
sys.path[:0] = paths
for path in paths:
    if os.path.basename(path) == "other_system":
        runpy.run_path(os.path.join(path, "sitecustomize.py"))
status = 0
try:
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[:0] = [] if safe else [os.getcwd()]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[:0] = [] if safe else [os.path.dirname(os.path.abspath(words[0]))]
        runpy.run_path(words[0], run_name="__main__")
except SystemExit as end:
    status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
except BaseException:
    traceback.print_exc()
    status = 1
# What the interpreter does at its end, but for freeing all objects, which would copy the memory that they lie in.
threading._shutdown()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)  # its end is near
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""


@cache
def _server() -> tuple[subprocess.Popen[bytes], tempfile.TemporaryDirectory[str]]:
    """The process that is forked, which ends with this one, and the folder of its address."""
    folder = tempfile.TemporaryDirectory()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _SERVER, _address(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen(command, env=environment | {"OMP_NUM_THREADS": "1"}, **pipes)  # type: ignore[call-overload]
    assert server.stdout.read(5) == b"ready"
    return server, folder


def _address(folder: tempfile.TemporaryDirectory[str]) -> str:
    return str(Path(folder.name) / "warm")


def warm(environment: dict[str, str]) -> dict[str, str]:
    """The environment in which Python's processes are forks; with one thread each, as the tests' own."""
    if os.environ.get("COLD_PYTHON") or not hasattr(os, "pidfd_open"):  # macOS has none
        return environment
    path = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), str(FOLDER)])
    return environment | {"PYTHONPATH": path, "WARM_PYTHON": _address(_server()[1]), "OMP_NUM_THREADS": "1"}
