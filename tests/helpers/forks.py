"""Runs scripts of a project in forks of one process that has imported the large libraries already.

A script that is killed and started again dozens of times would spend nearly all its time on imports. Everything of the
project itself is imported in the fork.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from project import Project

_SERVER = """
import gc, json, os, re, runpy, signal, sys, traceback
import numpy, pandas, pyarrow.parquet, PIL.Image, pydantic, ruamel.yaml, safetensors.torch, simplejpeg, torch, tqdm
import filelock, isal.isal_zlib, psutil, requests, torch.distributed, torch.nn.parallel, torchvision, yaml

torch.set_num_threads(1)  # a fork has no other thread
gc.freeze()  # a collection in a fork would copy all memory

def watch(operations, wanted, places):
    def hook(event, arguments):
        named = [str(a) for a in arguments[:2]]
        if event in operations and any(re.search(places, name) for name in named):
            if os.getpid() != hook.process:  # a worker of the script
                return
            if hook.log and event == "os.rename":
                os.write(hook.log, (named[1] + "\\n").encode())
            hook.seen += 1
            if hook.seen == wanted:
                os.kill(os.getpid(), signal.SIGKILL)
    hook.seen, hook.log, hook.process = 0, 0, os.getpid()
    return hook

for line in sys.stdin:
    request = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.dup2(os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            hook = watch(request["operations"], request["moment"], request["places"])
            hook.log = os.open(request["renames"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            sys.addaudithook(hook)
            sys.argv = request["argv"]
            sys.path.insert(0, os.getcwd())
            try:
                if sys.argv[0].endswith(".py"):
                    runpy.run_path(sys.argv[0], run_name="__main__")
                else:
                    sys.orig_argv = [sys.executable, "-m", *sys.argv]
                    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(bool(end.code))
            os.write(writing, str(hook.seen).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writing)
    _, ended = os.waitpid(child, 0)
    seen = os.read(reading, 100)
    os.close(reading)
    print(json.dumps([os.waitstatus_to_exitcode(ended), int(seen or 0)]), flush=True)
"""


class Ended(NamedTuple):
    """How a script ended."""

    status: int  # negative: the signal that killed it
    operations: int  # that it did, if it was not killed
    output: str


class Forks:
    """The process that is forked, in the folder of a project."""

    def __init__(self, project: Project, process: subprocess.Popen[str], operations: tuple[str, ...]) -> None:
        self._project, self._process, self._operations = project, process, operations

    def run(self, *argv: str, places: str, moment: int = 0) -> Ended:
        """Runs a script or module, and kills it at the `moment`-th operation on a path that the expression matches."""
        output, renames = (self._project.folder / name for name in (".forks_output", ".forks_renames"))
        request = {
            "argv": argv,
            "operations": self._operations,
            "places": places,
            "moment": moment,
            "output": str(output),
            "renames": str(renames),
        }
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        status, operations = json.loads(self._process.stdout.readline())
        return Ended(status, operations, output.read_text())

    def renamed_to(self) -> list[str]:
        """The targets of all renames among those operations so far, by whichever script."""
        return (self._project.folder / ".forks_renames").read_text().splitlines()


@contextmanager
def forks(project: Project, *operations: str) -> Iterator[Forks]:
    """Forks that count operations, by the names of Python's audit events."""
    command = [sys.executable, "-c", _SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=project.folder, env=project.env, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield Forks(project, process, operations)
