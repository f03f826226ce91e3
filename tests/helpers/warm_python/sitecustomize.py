"""Hands what this interpreter was started for to a fork of one that has the large libraries, and ends as that ends.

Each process that finds this folder on its PYTHONPATH imports it; what it does not know it leaves alone.
"""

from __future__ import annotations

import os
import sys

_OPTIONS = ("-u", "-P")
_MODULES = ("dcgan", "dcgan.tracking.sender", "torch.distributed.run")


def _is_known(words: list[str]) -> bool:
    if words[:1] == ["-m"]:
        return words[1] in _MODULES or words[1].startswith("pipeline.")
    dvc = os.environ.get("WARM_DVC") and words[:1] and words[0].endswith("/dvc")
    return bool(dvc or (words and words[0].endswith(".py")))


def _hand_over(address: str, options: list[str], words: list[str]) -> None:
    import json
    import signal
    import socket
    from types import FrameType

    with socket.socket(socket.AF_UNIX) as fork:
        fork.connect(address)
        request = {"options": options, "words": words, "folder": os.path.realpath("."), "environment": dict(os.environ)}
        socket.send_fds(fork, [b"-"], [0, 1, 2])
        answers = fork.makefile("rw")
        answers.write(json.dumps(request) + "\n")
        answers.flush()
        pid = int(answers.readline())

        def forward(number: int, frame: FrameType | None) -> None:
            os.kill(pid, number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, forward)
        status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if status != -signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


if address := os.environ.get("WARM_PYTHON"):
    _words = sys.orig_argv[1:]
    _options = []
    while _words and _words[0] in _OPTIONS:
        _options.append(_words.pop(0))
    if _is_known(_words):
        _hand_over(address, _options, _words)
    for _folder in os.environ["PYTHONPATH"].split(os.pathsep):
        if _folder.endswith("/other_system"):  # whose file of this name this one hides
            import runpy

            runpy.run_path(f"{_folder}/sitecustomize.py")
