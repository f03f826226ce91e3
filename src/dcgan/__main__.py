"""The command line of the project, `dcgan COMMAND` or `python -m dcgan COMMAND`: helpers around `dvc`."""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

from dcgan import params
from dcgan.commands import compare, data, distance, explore, export, importing, ui
from dcgan.commands.common import add_command as _add
from dcgan.commands.common import project_root as _project_root
from dcgan.system.errors import UserError, about_disk
from dcgan.system.gpu_memory import about_gpu_memory
from dcgan.system.project_files import FACES, GENERATOR

_CLEANED = """what is listed, if it has not changed for 30 days (--older-than):
  checkpoints      of trainings that no process runs, and whose settings neither params.yaml
                   nor an experiment in DVC's queue has; how to resume each, if that is known
  runs and models  that were deleted in MLflow, unless a registered model, an evaluation or
                   a checkpoint needs them
  DVC's cache      as `dvc gc --workspace --all-commits --all-experiments`
  data/links       lists of linked folders that data/link.json does not name any more
  leftovers        of killed processes: copies of the project, and temporary files
Runs that are not logged to MLflow yet are only removed with --give-up. Other stores, remotes
and a cache outside of the project are not touched."""


def main(arguments: list[str] | None = None) -> None:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # without warnings that tell a user nothing
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        sys.exit(str(error))
    except (OSError, RuntimeError) as error:
        sentence = about_disk(error) if isinstance(error, OSError) else about_gpu_memory(error)
        if sentence is None:
            raise
        sys.exit(sentence)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcgan",
        description="Reproducible training of a DCGAN: helpers around `dvc`. Run them in the project's folder.",
        epilog="`dcgan COMMAND --help` explains a command and gives an example.",
    )
    parser.add_argument("--version", action="version", version=f"dcgan {importlib.metadata.version('dcgan')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    explorer = partial(explore.add, seed=_seed)
    own = _add_settings, data.add, _add_pictures, _add_runs, compare.add, ui.add, explorer, distance.add, _add_clean
    for add in (*own, importing.add, export.add):
        add(commands)
    return parser


def _add_settings(commands: Any) -> None:
    _add(
        commands,
        "check",
        _check,
        "check params.yaml before DVC touches anything, and that dvc.lock says what made the results that are here",
        "dcgan check && dvc repro",
    )
    preset = _add(
        commands,
        "preset",
        _preset,
        "write a whole configuration from presets/ into params.yaml",
        "dcgan preset celeba",
        _presets_listed(),
    )
    preset.add_argument("name", metavar="NAME", help="one of the presets below (a file in presets/, without .yaml)")
    preset.add_argument(
        "--overrides",
        action="store_true",
        help="do not change params.yaml; print what the preset changes in it as -S options, for `dvc exp run $(...)`",
    )


def _presets_listed() -> str:
    try:
        about = params.describe_presets(_project_root() / "presets")
    except UserError:
        return "presets: change into the project's folder to list them"
    wrapped = (
        textwrap.fill(what, 80, initial_indent=f"  {name:<20} ", subsequent_indent=" " * 23)
        for name, what in about.items()
    )
    return "\n".join(["presets:", *wrapped])


def _add_pictures(commands: Any) -> None:
    generate = _add(
        commands,
        "generate",
        _generate,
        "write generated faces as PNG files; with the default seed, these are the faces that are evaluated",
        "dcgan generate --count 64 --out generated",
    )
    generate.add_argument("--count", type=int, required=True, metavar="N", help="number of faces, at least 1")
    generate.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    generate.add_argument("--seed", type=int, metavar="N", help="seed of the latents; default: `seed` of params.yaml")
    generate.add_argument(
        "--model", type=Path, metavar="FILE", help="a generator.safetensors file; default: models/generator.safetensors"
    )

    faces = _add(
        commands,
        "faces",
        _faces,
        "write real faces as PNG files, cropped and resized as for the training",
        "dcgan faces --split test --out real",
    )
    faces.add_argument(
        "--split", choices=("train", "valid", "test", "all"), default="train", help="split to write; default: train"
    )
    faces.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")


def _add_runs(commands: Any) -> None:
    _add(
        commands,
        "sync",
        _sync,
        "log to MLflow what is not logged yet, including a result that DVC restored from its cache",
        "MLFLOW_TRACKING_URI=http://127.0.0.1:5000 dcgan sync",
    )
    runs = _add(
        commands,
        "runs",
        _runs,
        "list the MLflow runs of a result, oldest first: id, commit, name, distance",
        "dcgan runs models/generator.safetensors",
    )
    runs.add_argument(
        "what",
        metavar="RESULT",
        help="a generator.safetensors file, the name of a DVC experiment, a git revision (HEAD, a tag, a hash), or the "
        "name of a run",
    )
    reproduce = _add(
        commands,
        "reproduce",
        _reproduce,
        "print the commands that rebuild the result of an MLflow run; with --go, also run them",
        "dcgan reproduce 0123456789abcdef0123456789abcdef --go",
    )
    reproduce.add_argument(
        "run_id", metavar="RUN_ID", help="id of the run: 32 hexadecimal digits, as `dcgan runs` prints them"
    )
    reproduce.add_argument("--go", action="store_true", help="run the commands, and compare the result with the run")
    reproduce.add_argument(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="a folder that does not exist yet; default: a new folder beside the project",
    )


def _add_clean(commands: Any) -> None:
    clean = _add(
        commands,
        "clean",
        _clean,
        "list with sizes what nothing refers to any more; with --remove, also remove it",
        "dcgan clean --older-than 7 --remove",
        _CLEANED,
    )
    clean.add_argument("--remove", action="store_true", help="remove what nothing refers to")
    clean.add_argument(
        "--older-than", type=float, default=30, metavar="DAYS", help="age of what may be removed; default: 30"
    )
    clean.add_argument(
        "--give-up",
        action="append",
        default=[],
        metavar="STORE",
        help="also remove the runs that wait in mlspool/STORE, whatever their age: they are lost",
    )


def _seed(root: Path) -> int:
    return params.load(root / "params.yaml").seed


def _check(options: argparse.Namespace) -> None:
    params.load(_project_root() / "params.yaml")
    _run_script("check")
    print("params.yaml: every key and value is allowed.")


def _preset(options: argparse.Namespace) -> None:
    root = _project_root()
    path, preset = root / "params.yaml", params.load_preset(root / "presets", options.name)
    if options.overrides:
        print(" ".join(f"-S {override}" for override in params.overrides(params.load(path), preset)))
    else:
        params.write_preset(path, preset)
        print(f"params.yaml now holds the preset {options.name}.")


def _generate(options: argparse.Namespace) -> None:
    from dcgan import networks, sampling
    from dcgan.metrics import folders
    from dcgan.system import hardware

    if options.count < 1:
        raise UserError(f"--count: {options.count} is not allowed; give a whole number from 1.")
    model = options.model or _project_root() / GENERATOR
    if not model.is_file():
        raise UserError(f"{model}: there is no such file; train a generator with `dvc repro`, or give --model.")
    seed = _seed(_project_root()) if options.seed is None else options.seed
    hardware.prepare()
    generator = networks.load_generator(model).to(hardware.default_device())
    folders.write_folder(options.out, sampling.generated(generator, seed), options.count, "generating")


def _faces(options: argparse.Namespace) -> None:
    from dcgan.data import images
    from dcgan.metrics import folders

    folder = _project_root() / FACES
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; create it with `dvc repro crop`.")
    faces = images.open_faces(folder, options.split)
    if not len(faces):
        raise UserError(f"--split: {options.split} has no faces in this data set; give another split.")
    folders.write_folder(options.out, lambda numbers: faces[numbers], len(faces), "writing")


def _sync(options: argparse.Namespace) -> None:
    _run_script("sync")


def _clean(options: argparse.Namespace) -> None:
    if not 0 <= options.older_than < math.inf:
        raise UserError(f"--older-than: {options.older_than:g} is not allowed; give a number of days of at least 0.")
    _run_script("clean", str(options.older_than), "remove" if options.remove else "list", *options.give_up)


def _run_script(name: str, *words: str) -> None:
    """Runs a script of pipeline/support, which knows DVC's files; exits with its status if it failed."""
    done = subprocess.run([sys.executable, "-m", f"pipeline.support.{name}", *words], cwd=_project_root(), check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _runs(options: argparse.Namespace) -> None:
    from dcgan.tracking import reproduce
    from dcgan.tracking.metric_groups import plain_names

    for run in reproduce.runs_of(_project_root(), options.what):
        known = plain_names(run.data.metrics)
        measured = {name: known[name] for name in ("fid", "frechet_distance") if name in known}
        distance = ", ".join(f"{name} {value:g}" for name, value in measured.items()) or "not measured"
        trained_in = run.data.tags.get("trained_in")
        also = f"  trained in {trained_in}" if trained_in else ""
        print(f"{run.info.run_id}  {reproduce.started_from(run)}  {run.info.run_name}  {distance}{also}")


def _reproduce(options: argparse.Namespace) -> None:
    from dcgan.tracking import reproduce

    plan = reproduce.plan(_project_root(), options.run_id, options.into)
    print("\n".join(plan.commands()), flush=True)
    if options.go:
        reproduce.go(plan)


if __name__ == "__main__":
    main()
