"""What the commands share."""

from __future__ import annotations

import argparse
import socket
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcgan.system.errors import UserError

HOST = "127.0.0.1"  # of all pages


def add_command(
    commands: Any,  # the type is private in argparse
    name: str,
    run: Callable[[argparse.Namespace], object],
    what: str,
    example: str,
    more: str = "",
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        run: called with the parsed options.
        what: one line that says what the command does.
        example: an example of the command line.
        more: further text for the help of the command.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=textwrap.fill(f"{what[0].upper()}{what[1:]}."),
        epilog=f"{more}\n\nexample:\n  {example}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def project_root() -> Path:
    """Returns the current folder or its nearest parent that holds dvc.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            code, own = Path(__file__).resolve().parents[1], (folder / "src" / "dcgan").resolve()
            if own.is_dir() and own != code:
                raise UserError(
                    f"{folder}: this `dcgan` runs the code in {code}, not that of this project; remove .venv if it was "
                    "copied from there, and run `make install` here."
                )
            return folder
    raise UserError(f"{here}: it is not inside this project; change into the project's folder first.")


def check_port(port: int, command: str, other: int) -> None:
    """Raises UserError if the port cannot be listened on, before imports that take seconds.

    Args:
        command: of `dcgan` and of make, which serves on the port.
        other: a port to propose, if the next one is none.
    """
    try:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((HOST, port))
    except (OSError, OverflowError):
        other = port + 1 if 1024 <= port < 65_535 else other
        raise UserError(
            f"port {port}: it is in use, or not allowed; give another, for example `make {command} PORT={other}` or "
            f"`dcgan {command} --port {other}`."
        ) from None
