"""`dcgan explore`: a page with sliders for what the generator has learnt."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dcgan.commands.common import HOST, add_command, check_port, project_root
from dcgan.system.errors import UserError
from dcgan.system.project_files import GENERATOR


def add(commands: Any, seed: Callable[[Path], int]) -> None:
    """Adds the command; `seed` returns the one that the page begins with, for the root of the project."""
    explore = add_command(
        commands,
        "explore",
        partial(_run, seed),
        f"move faces along directions, find your own, and more, on a page on {HOST}",
        "dcgan explore --model models:/dcgan-avatars@champion",
    )
    explore.add_argument(
        "--model",
        metavar="MODEL",
        help="a generator.safetensors file, or models:/NAME@ALIAS in the registry; default: the trained one",
    )
    explore.add_argument("--port", type=int, default=2718, metavar="N", help="port of the page; default: 2718")


def _run(seed: Callable[[Path], int], options: argparse.Namespace) -> None:
    root = project_root()
    if importlib.util.find_spec("marimo") is None:
        raise UserError("marimo: it is not installed; `make explore` installs it, and opens the page.")
    check_port(options.port, "explore", 2719)
    name, first_seed = options.model or str(GENERATOR), seed(root)
    os.environ["MARIMO_SKIP_UPDATE_CHECK"] = "1"
    file = Path(options.model) if options.model else root / GENERATOR
    if file.is_file() or not name.startswith("models:"):
        os.execv(sys.executable, _server(root, file, name, first_seed, options.port))
    from dcgan.tracking.registered import downloaded

    with downloaded(root, name) as (model, _), contextlib.suppress(KeyboardInterrupt):
        subprocess.run(_server(root, model, name, first_seed, options.port), check=False)


def _server(root: Path, model: Path, name: str, seed: int, port: int) -> list[str]:
    """Returns the command that serves the page, and prints its address.

    Raises:
        UserError: there is no such file, or it holds no generator.
    """
    from dcgan import networks

    if not model.is_file():
        raise UserError(f"{model}: there is no such file; train a generator with `dvc repro`, or give --model.")
    networks.load_generator(model)
    print(f"The explorer: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
    page = Path(__file__).parents[1] / "exploring" / "app.py"
    command = [sys.executable, "-m", "marimo", "--quiet", "run", str(page), "--headless", "--no-token", "--no-sandbox"]
    command += ["--host", HOST, "--port", str(port), "--"]
    return [*command, "--root", str(root), "--model", str(model.resolve()), "--name", name, "--seed", str(seed)]
