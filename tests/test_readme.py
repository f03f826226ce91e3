"""What the README claims is what the committed lock holds."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from project import ROOT

from dcgan import params
from dcgan.networks import Settings, build, save
from dcgan.sampling import random_state

DOCS = sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()
LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
METRICS = json.loads((ROOT / "reports" / "metrics.json").read_text())


def locked(path: str) -> str:
    """The MD5 of an out in dvc.lock."""
    found: list[str] = [o["md5"] for stage in LOCK.values() for o in stage.get("outs", []) if o["path"] == path]
    return found[0]


def md5(path: str) -> str:
    return hashlib.md5((ROOT / path).read_bytes()).hexdigest()


@pytest.mark.usefixtures("committed_run")
def test_the_picture_is_the_one_that_the_lock_holds() -> None:
    assert md5("docs/samples.png") == locked("reports/samples.png")


def test_the_pictures_load_soon_and_the_animation_shows_the_training() -> None:
    names = re.findall(r'src="(docs/[\w.]+)"', README)
    assert len(names) == 5 and sum((ROOT / name).stat().st_size for name in names) < 2_000_000
    with Image.open(ROOT / "docs" / "training.webp") as animation:
        assert getattr(animation, "n_frames", 1) == params.load(ROOT / "params.yaml").epochs + 1


@pytest.mark.usefixtures("committed_run")
def test_the_committed_reports_are_those_of_the_lock() -> None:
    for path in ("reports/metrics.json", "reports/losses.csv"):
        assert md5(path) == locked(path)


@pytest.mark.usefixtures("committed_run")
def test_the_lock_was_made_with_the_committed_parameters_and_code() -> None:
    values = params.load(ROOT / "params.yaml").model_dump()
    for name, stage in LOCK.items():
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            assert values[key] == value, f"{name}: {key}"
        assert {dep["path"] for dep in stage["deps"]} == set(STAGES[name]["deps"]), name
        for dep in stage["deps"]:
            if dep["path"].startswith(("src/", "pipeline/")):
                assert md5(dep["path"]) == dep["md5"], f"{dep['path']} has changed since dvc.lock; run `make repro`"


@pytest.mark.usefixtures("committed_run")
def test_the_numbers_are_those_of_the_metrics() -> None:
    line = README[: README.index("make repro")]
    for key in ("frechet_distance", "frechet_distance_untrained", "frechet_distance_grey", "frechet_distance_floor"):
        assert f"{METRICS[key]:.0f}" in re.findall(r"\d+", line), key


@pytest.mark.usefixtures("committed_run")
def test_the_default_run_is_far_better_than_none() -> None:
    for other in ("frechet_distance_untrained", "frechet_distance_grey"):
        assert METRICS["frechet_distance"] < 0.75 * METRICS[other]


def test_the_lines_that_load_a_generator_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Settings(nz=4, ngf=2, ndf=2)
    save(tmp_path / "models" / "generator.safetensors", build(small, random_state(1, "x"))[0], small, {})
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"### The generator in Python\n\n((?:    .*\n)+)", README)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(lines), names)
    assert names["faces"].shape == (64, 64, 64, 3) and names["faces"].dtype == torch.uint8


def test_every_preset_and_target_is_described() -> None:
    for preset in params.preset_names(ROOT / "presets"):
        assert f"| `{preset}` |" in README
    for target in ("repro", "test", "test-long", "lint", "exps", "ui", "explore", "bench", "help"):
        assert f"make {target}" in README


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in DOCS)])
def test_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:src|pipeline|tests|benchmarks|presets|docs)/[\w/.-]*)`|\]\(([\w/.-]+)\)", text)
    for path in (code or link for code, link in named):
        found = (ROOT / path).exists() or (ROOT / page).parent.joinpath(path).exists()
        assert found or "NAME" in path, f"{page}: {path}"
