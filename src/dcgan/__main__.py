"""The command line: helpers around `dvc`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from dcgan import params
from dcgan.system.errors import UserError, about_disk


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        sentence = about_disk(error)
        if sentence is None:
            raise
        sys.exit(sentence)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dcgan", description="A reproducible DCGAN: helpers around `dvc`.")
    commands = parser.add_subparsers(required=True)

    check = commands.add_parser("check", help="check params.yaml before DVC touches anything")
    check.set_defaults(run=lambda options: params.load(_project_root() / "params.yaml"))

    preset = commands.add_parser("preset", help="write a whole configuration from presets/ into params.yaml")
    preset.add_argument("name", help="a file in presets/ without its ending")
    preset.add_argument(
        "--overrides", action="store_true", help="change nothing; print what differs as -S options of `dvc exp run`"
    )
    preset.set_defaults(run=_preset)

    generate = commands.add_parser("generate", help="write generated faces as PNG files: those that are evaluated")
    generate.add_argument("--count", type=int, required=True, help="how many")
    generate.add_argument("--out", type=Path, required=True, help="a new folder")
    generate.add_argument("--seed", type=int, help="of the latents; that of params.yaml if not given")
    generate.add_argument("--model", type=Path, help="models/generator.safetensors of this project if not given")
    generate.set_defaults(run=_generate)

    faces = commands.add_parser("faces", help="write real faces, as they are trained on, as PNG files")
    faces.add_argument("--split", choices=("train", "valid", "test", "all"), default="train")
    faces.add_argument("--out", type=Path, required=True, help="a new folder")
    faces.set_defaults(run=_faces)

    sync = commands.add_parser("sync", help="tell MLflow what it has not been told, and a result that DVC restored")
    sync.set_defaults(run=_sync)

    runs = commands.add_parser("runs", help="the MLflow runs of a generator")
    runs.add_argument("what", help="its file, or the DVC experiment or git revision that has it")
    runs.set_defaults(run=_runs)

    reproduce = commands.add_parser("reproduce", help="how to rebuild the result of an MLflow run")
    reproduce.add_argument("run_id", metavar="RUN_ID")
    reproduce.add_argument("--go", action="store_true", help="rebuild it, and compare the hashes")
    reproduce.add_argument("--into", type=Path, help="the new worktree's folder; beside the project if not given")
    reproduce.set_defaults(run=_reproduce)

    distance = commands.add_parser("distance", help="the Frechet distance of two folders of pictures")
    distance.add_argument("folders", type=Path, nargs=2, metavar="FOLDER")
    distance.add_argument("--network", choices=("inception", "efficientnet_lite0"), default="inception")
    distance.add_argument("--weights", type=Path, help="a file of other weights; the result is then no FID")
    distance.add_argument("--compile", action="store_true", help="compile the network, on a CPU; for many pictures")
    distance.set_defaults(run=_distance)
    return parser


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
    model = options.model or _project_root() / "models" / "generator.safetensors"
    if not model.is_file():
        raise UserError(f"{model}: there is no such file; train one with `dvc repro`, or give --model.")
    seed = params.load(_project_root() / "params.yaml").seed if options.seed is None else options.seed
    hardware.prepare()
    generator = networks.load_generator(model).to(hardware.default_device())
    folders.write_folder(options.out, sampling.generated(generator, seed), options.count, "generating")


def _faces(options: argparse.Namespace) -> None:
    from dcgan.data import images
    from dcgan.metrics import folders

    folder = _project_root() / "data" / "faces"
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; make it with `dvc repro crop`.")
    faces = images.open_all(folder) if options.split == "all" else images.open_split(folder, options.split)
    if not len(faces):
        raise UserError(f"--split: {options.split} has no faces in this data set; give another.")
    folders.write_folder(options.out, lambda numbers: faces[numbers], len(faces), "writing")


def _sync(options: argparse.Namespace) -> None:
    environment = os.environ | {"PYTHONPATH": str(_project_root() / "pipeline")}
    done = subprocess.run([sys.executable, "-P", "-m", "support.sync"], env=environment, check=False)
    sys.exit(done.returncode)


def _runs(options: argparse.Namespace) -> None:
    from dcgan.tracking import reproduce

    for run in reproduce.runs_of(_project_root(), options.what):
        measured = {name: run.data.metrics[name] for name in ("fid", "frechet_distance") if name in run.data.metrics}
        distance = ", ".join(f"{name} {value:g}" for name, value in measured.items()) or "not measured"
        print(f"{run.info.run_id}  {run.info.run_name}  {distance}")


def _reproduce(options: argparse.Namespace) -> None:
    from dcgan.tracking import reproduce

    root = _project_root()
    plan = reproduce.plan(root, options.run_id, options.into)
    print("\n".join(plan.commands()), flush=True)
    if options.go:
        reproduce.go(root, plan)


def _distance(options: argparse.Namespace) -> None:
    from dcgan.metrics import collecting, feature_networks, folders, frechet, weights
    from dcgan.system import hardware

    opened = [folders.open_folder(folder) for folder in options.folders]
    if options.weights and not options.weights.is_file():
        raise UserError(f"{options.weights}: there is no such file; give one of weights, or leave --weights out.")
    file = options.weights or weights.provide(options.network, _downloads(options.network))
    device = hardware.default_device()
    hardware.prepare()
    network = feature_networks.load(options.network, file, device, options.compile and device.type == "cpu")
    a, b = (
        collecting.collect(network, pictures, count, str(folder))
        for folder, (pictures, count) in zip(options.folders, opened, strict=True)
    )
    name = "fid" if network.is_fid else "frechet_distance"
    print(f"{name}: {frechet.frechet_distance(a, b):.10g}")
    print(
        f"network {network.name}, weights {network.weights_sha256}, fp32; {a.count} pictures against {b.count}",
        file=sys.stderr,
    )


def _downloads(network: str) -> Path:
    return _project_root() / "data" / "downloads" if network == "inception" else Path()


def _project_root() -> Path:
    """The nearest folder upwards that holds dvc.yaml, as DVC finds it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"{here}: it is not inside this project; change into the project's folder first.")


if __name__ == "__main__":
    main()
