"""`dcgan export`: a folder that draws a generator's faces without this project."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcgan.commands.common import add_command, project_root
from dcgan.system.errors import UserError
from dcgan.system.project_files import GENERATOR, PRESETS, REPORTS

if TYPE_CHECKING:
    from dcgan.tracking.recorded import Recorded

_MORE = """The folder holds the generator as safetensors, as ONNX and as an exported program (pt2), 64 latents
with their pictures, the parameters, the metrics, and a README.md: a model card in the form of the
Hugging Face hub, with three lines of Python that draw the pictures. What does not belong to this
generator is left out, and a line says so."""


def add(commands: Any) -> None:
    """Adds the command."""
    export = add_command(
        commands,
        "export",
        _run,
        "write a folder that draws a generator's faces without this project, to share it",
        "dcgan export shared",
        _MORE,
    )
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a new or empty folder")
    export.add_argument(
        "--model",
        default="",
        metavar="MODEL",
        help="a generator.safetensors file, or a registered model such as models:/dcgan-avatars@champion; default: "
        "models/generator.safetensors",
    )
    export.add_argument("--seed", type=int, metavar="N", help="seed of the latents; default: that of the training")


def _run(options: argparse.Namespace) -> None:
    from dcgan.sharing import folder
    from dcgan.system.metadata import read_metadata
    from dcgan.tracking.repository import commit, git

    root = project_root()
    out = folder.check_new(options.folder)
    with _found(root, options.model) as (model, known):
        seed = int(read_metadata(model).get("seed", 1)) if options.seed is None else options.seed
        for sentence in known.left_out:
            print(sentence, file=sys.stderr)
        clean = (
            known.params and git(root, "diff", "--quiet", "HEAD", "--", "dvc.lock", "src", "pipeline").returncode == 0
        )
        metrics, data = _without_paths(known)
        rebuild = _commands(root, known.params)
        difference = folder.write(out, model, seed, known.params, metrics, data, rebuild, commit(root) if clean else "")
    print(f"{options.folder}: written; ONNX Runtime's pictures differ from PyTorch's by at most {difference:.1g} of 2")


@contextmanager
def _found(root: Path, model: str) -> Iterator[tuple[Path, Recorded]]:
    """Yields the generator's file, and what is recorded of it."""
    from dcgan.tracking import recorded
    from dcgan.tracking.registered import SCHEME, downloaded

    if not model.startswith(SCHEME):
        file = Path(model) if model else root / GENERATOR
        if not file.is_file():
            raise UserError(f"{file}: there is no such file; train a generator with `dvc repro`, or give --model.")
        yield file, recorded.in_lock(root, file)
        return
    with downloaded(root, model) as (file, run):
        known = recorded.in_lock(root, file)
        if not known.metrics:
            card = root / REPORTS / "data.json"
            known = recorded.in_run(run, json.loads(card.read_text()) if card.is_file() else {})
        yield file, known


def _commands(root: Path, params: Mapping[str, Any]) -> list[str]:
    """The commands that make a generator with these parameters; none if they are not known."""
    import yaml

    from dcgan.report.recipe import recipe

    presets = {path.stem: yaml.safe_load(path.read_text()) for path in (root / PRESETS).glob("*.yaml")}
    return recipe(params, presets).commands() if params else []


def _without_paths(known: Recorded) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics and the data card without the path of a linked folder, which is this machine's."""
    path = known.data.get("source", {}).get("folder")
    texts = [json.dumps(dict(value)) for value in (known.metrics, known.data)]
    metrics, data = (json.loads(text.replace(path, Path(path).name) if path else text) for text in texts)
    return metrics, data
