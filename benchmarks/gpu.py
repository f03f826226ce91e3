"""`make gpu`: what this project does on a GPU, tried and measured, in one JSON file and one Markdown table.

    python benchmarks/gpu.py --out /tmp/gpu

The pipeline's stages run in order, by the commands of dvc.yaml, in a copy of this folder; the training four times: as
usual, once more, without CUDA graphs, and killed and resumed, whose results must be the same bytes. Then the speed of
a step is measured, and that of the evaluation. It takes about ten minutes, and needs no network and neither git nor
DVC; on a machine without this project's environment it needs the packages that the stages import:

    python3 -m pip install --no-deps --target /tmp/packages -r requirements.txt  # or wheels that were copied there
    PYTHONPATH=/tmp/packages:src python3 benchmarks/gpu.py --out /tmp/gpu
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import evaluation_speed
import torch
import training_speed
import yaml
from roofline import Rates, rates

from dcgan.networks import Settings
from dcgan.system import hardware
from dcgan.system.files import sha256
from dcgan.system.hardware import Hardware
from dcgan.training.step import Recipe

ROOT = Path(__file__).resolve().parent.parent
COPIED = "src", "pipeline", "presets", "data/folder", "data/link.json", "models/README.md", "params.yaml", "dvc.yaml"
TRAINED = "models/generator.safetensors", "models/discriminator.safetensors", "reports/losses.csv"
SMALL = {"dataset_size": 60, "epochs": 2, "batch_size": 12, "ngf": 4, "ndf": 4, "fid_samples": 12, "fid_repeats": 1}


class Project:
    """A copy of this folder in which stages run."""

    def __init__(self, folder: Path, changes: dict[str, Any]) -> None:
        self.folder = folder
        for name in filter(lambda name: (ROOT / name).exists(), COPIED):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, folder / name)
        for name in ("reports", "data/downloads"):
            (folder / name).mkdir(parents=True)
        self.change(changes)

    def change(self, changes: dict[str, Any]) -> None:
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def start(self, stage: str, **environment: str) -> subprocess.Popen[str]:
        command = yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"][stage]["cmd"].split()
        return subprocess.Popen(
            [sys.executable, *command[1:]], cwd=self.folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"DCGAN_TRACKING": "0", "DCGAN_LOG_INTERVAL": "200"} | environment,
        )  # fmt: skip

    def run(self, stage: str, **environment: str) -> float:
        """Runs a stage, and returns its seconds.

        Raises:
            SystemExit: the stage failed.
        """
        start = time.perf_counter()
        process = self.start(stage, **environment)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{stage}: exit status {process.returncode}\n{said}")
        seconds = time.perf_counter() - start
        print(f"{stage} {' '.join(f'{k}={v}' for k, v in environment.items())}: {seconds:.1f} s", flush=True)
        return seconds

    def trained(self) -> dict[str, str]:
        return {name: sha256(self.folder / name) for name in TRAINED}

    def again(self, **environment: str) -> dict[str, str]:
        """Trains from the start, and returns the hashes of the results."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        self.run("train", **environment)
        return self.trained()

    def killed_and_resumed(self) -> dict[str, str]:
        """Kills a training after its second checkpoint, resumes it, and returns the hashes of the results."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        process = self.start("train", DCGAN_CHECKPOINT_MINUTES="0.01")
        seen: set[tuple[Path, int]] = set()
        while process.poll() is None and len(seen) < 2:
            saved = (self.folder / "checkpoints").rglob("*.safetensors")
            seen |= {(path, path.stat().st_mtime_ns) for path in saved if path.exists()}
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise SystemExit("the training ended before it could be killed; give it more epochs")
        self.run("train")
        return self.trained()


def stages() -> list[str]:
    return list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def whole_pipeline(machine: Hardware, small: bool) -> Iterator[tuple[str, Any]]:
    """Yields what the pipeline's stages took and found, and whether all trainings gave the same bytes."""
    on_gpu = machine.device.type == "cuda"
    with tempfile.TemporaryDirectory() as temporary:
        project = Project(Path(temporary), (SMALL if small else {}) | {"ngpu": "auto" if on_gpu else 0})
        yield "seconds", {stage: round(project.run(stage), 1) for stage in stages()}
        runtime = json.loads((project.folder / "reports/runtime.json").read_text())
        yield "training", {key: value for key, value in runtime["train"].items() if isinstance(value, float)}
        metrics = json.loads((project.folder / "reports/metrics.json").read_text())
        yield "metrics", {key: value for key, value in metrics.items() if key.startswith(("fid", "frechet"))}
        first = project.trained()
        same = {
            "again": project.again() == first,
            "without CUDA graphs": project.again(DCGAN_GRAPHS="0") == first,
            "killed by SIGKILL and resumed": project.killed_and_resumed() == first,
        }
        if torch.cuda.device_count() > 1:
            project.change({"ngpu": 2})
            same["two GPUs, twice"] = project.again() == project.again()
        yield "same bytes", same


def speeds(machine: Hardware, peaks: Rates, small: bool) -> Iterator[tuple[str, Any]]:
    """Yields the speed of a step, beside the tutorial's loop and beside the roofline."""
    cases: dict[str, tuple[Settings, Recipe]] = {
        "the default": training_speed.DEFAULT,
        "the default with ngf = ndf = 64, batch 128": training_speed.WIDE,
        "the tutorial's recipe": training_speed.TUTORIAL,
    }
    if small:
        cases = {"small": (Settings(ngf=4, ndf=4, discriminator_norm="none"), Recipe(batch_size=4, r1_gamma=1.0))}
    for (name, (settings, recipe)), precision in itertools.product(cases.items(), sorted({machine.precision, "fp32"})):
        side = Hardware(machine.device, precision, machine.graphs)
        speed = training_speed.measured(settings, recipe, side, peaks, *((1, 1) if small else (5, 16)))
        print(name, precision, speed, flush=True)
        yield f"{name}, {precision}", asdict(speed)


def table(results: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    lines = [f"# {results['device']['device']}", "", ", ".join(f"{k} {v}" for k, v in results["device"].items()), ""]
    for title, rows in results.items():
        if title in ("device", "speed"):
            continue
        lines += [f"## {title[0].upper()}{title[1:]}", "", "| what | figure |", "|---|---|"]
        shown = rows.items() if isinstance(rows, dict) else [(title, rows)]
        lines += [*(f"| {what} | {_figure(value)} |" for what, value in shown), ""]
    columns = list(next(iter(results["speed"].values())))
    header = f"| recipe | {' | '.join(columns)} |"
    lines += ["## Speed of a training step", "", header, "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {name} | {' | '.join(map(_figure, row.values()))} |" for name, row in results["speed"].items()]
    return "\n".join(lines) + "\n"


def _figure(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--small", action="store_true", help="only to try this script, also on a CPU")
    arguments = parser.parse_args()
    machine = hardware.resolve("auto", "auto")
    if machine.device.type != "cuda" and not arguments.small:
        raise SystemExit("torch sees no GPU here; give --small to try this script on the CPU.")
    hardware.prepare()
    results: dict[str, Any] = {"device": hardware.describe(machine)}
    arguments.out.mkdir(parents=True, exist_ok=True)

    def keep(section: str, found: Iterable[tuple[str, Any]]) -> None:
        """Adds what was found at once, so that a failure later loses nothing."""
        for name, value in found:
            (results if not section else results.setdefault(section, {}))[name] = value
            (arguments.out / "gpu.json").write_text(json.dumps(results, indent=2) + "\n")

    keep("", whole_pipeline(machine, arguments.small))
    peaks = rates(machine.device, 256 if arguments.small else 8192)
    keep("rates", asdict(peaks).items())
    keep("speed", speeds(machine, peaks, arguments.small))
    if not arguments.small:  # the whole Inception takes minutes on a CPU
        keep("evaluation beside pytorch-fid", evaluation_speed.whole_commands(2500, 1, machine.device).items())
    (arguments.out / "gpu.md").write_text(table(results))
    if not all(results["same bytes"].values()):
        raise SystemExit(f"some trainings gave other bytes: {results['same bytes']}")


if __name__ == "__main__":
    main()
