"""The command line: `python -m dcgan check`, `python -m dcgan preset NAME`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dcgan import params
from dcgan.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dcgan", description="A reproducible DCGAN: helpers around `dvc`.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="check params.yaml before DVC touches anything")
    preset = commands.add_parser("preset", help="write a whole configuration from presets/ into params.yaml")
    preset.add_argument("name", help="a file in presets/ without its ending")
    preset.add_argument(
        "--overrides", action="store_true", help="change nothing; print what differs as -S options of `dvc exp run`"
    )
    options = parser.parse_args(arguments)
    try:
        root = _project_root()
        path = root / "params.yaml"
        if options.command == "check":
            params.load(path)
        elif options.overrides:
            differing = params.overrides(params.load(path), params.load_preset(root / "presets", options.name))
            print(" ".join(f"-S {override}" for override in differing))
        else:
            params.write_preset(path, params.load_preset(root / "presets", options.name))
            print(f"params.yaml now holds the preset {options.name}.")
    except UserError as error:
        sys.exit(str(error))


def _project_root() -> Path:
    """The nearest folder upwards that holds dvc.yaml, as DVC finds it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"{here}: it is not inside this project; change into the project's folder first.")


if __name__ == "__main__":
    main()
