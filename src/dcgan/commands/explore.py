"""`dcgan explore`: a page with sliders for what the generator has learnt."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dcgan.commands.common import HOST, add_command, check_port, project_root
from dcgan.system.errors import UserError
from dcgan.system.project_files import GENERATOR

_ALIAS = "@"  # in the name of a registered model's version: dcgan-avatars@champion


def add(commands: Any, seed: Callable[[Path], int]) -> None:
    """Adds the command; `seed` returns the one that the page begins with, for the root of the project."""
    explore = add_command(
        commands,
        "explore",
        partial(_run, seed),
        f"move faces along directions, find your own, and more, on a page on {HOST}",
        "dcgan explore --model dcgan-avatars@champion",
    )
    explore.add_argument(
        "--model",
        metavar="MODEL",
        help="a generator.safetensors file, or NAME@ALIAS of a registered model; default: models/generator.safetensors",
    )
    explore.add_argument("--port", type=int, default=2718, metavar="N", help="port of the page; default: 2718")


def _run(seed: Callable[[Path], int], options: argparse.Namespace) -> None:
    root = project_root()
    if importlib.util.find_spec("marimo") is None:
        raise UserError("marimo: it is not installed; `make explore` installs it, and opens the page.")
    check_port(options.port, "explore", 2719)
    name = options.model or str(GENERATOR)
    model, first_seed = _file(root, name), seed(root)
    print(f"The explorer: http://{HOST}:{options.port} (Ctrl-C ends it)", flush=True)
    page = Path(__file__).parents[1] / "exploring" / "app.py"
    command = [sys.executable, "-m", "marimo", "--quiet", "run", str(page), "--headless", "--no-token", "--no-sandbox"]
    command += ["--host", HOST, "--port", str(options.port), "--"]
    command += ["--root", str(root), "--model", str(model), "--name", name, "--seed", str(first_seed)]
    os.environ |= {"MARIMO_SKIP_UPDATE_CHECK": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    os.execv(sys.executable, command)


def _file(root: Path, name: str) -> Path:
    """Returns the file of a generator, given as a path or as NAME@ALIAS.

    Raises:
        UserError: there is no such file or registered model, or the file holds no generator.
    """
    path = Path(name)
    if not path.is_absolute() and not path.exists():
        path = root / path
    if not path.is_file() and _ALIAS in name:
        from dcgan.tracking.registered import generator_file

        path = generator_file(root, name)
    elif not path.is_file():
        raise UserError(f"{path}: there is no such file; train a generator with `dvc repro`, or give --model.")
    from dcgan import networks

    networks.load_generator(path)
    return path.resolve()
