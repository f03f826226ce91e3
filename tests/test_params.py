"""params.yaml: what is accepted, what is refused and how, and the presets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mistakes import MISTAKES
from project import ROOT, Project

from dcgan import params
from dcgan.system.errors import UserError

PRESETS = params.preset_names(ROOT / "presets")
AVATARS = params.load_preset(ROOT / "presets", "avatars").model_dump()


@pytest.mark.parametrize("text", ["1e-5", "'1e-05'", "1e-05", "0.00001", ".00001", "1E-5"])
def test_a_learning_rate_is_a_number_however_it_is_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"(?m)^lr: \S+", f"lr: {text}", (ROOT / "params.yaml").read_text()))
    assert params.load(path).lr == 1e-5


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_each_mistake_is_one_sentence_that_names_it(tmp_path: Path, mistake: Any) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(mistake.apply((ROOT / "params.yaml").read_text()))
    with pytest.raises(UserError) as error:
        params.load(path)
    message = str(error.value)
    assert len(message.splitlines()) == 1 and message.endswith(".")
    for word in mistake.words:
        assert word in message


def test_an_empty_string_is_nothing() -> None:
    assert params.validate(AVATARS | {"crop_size": "", "lr_discriminator": ""}) == params.validate(AVATARS)


@pytest.mark.parametrize("changed", [{"crop_size": 48}, {"dataset": "cifar10"}])
def test_a_crop_that_would_refuse_every_picture_is_named(changed: dict[str, object]) -> None:
    params.validate(AVATARS | changed)
    with pytest.raises(UserError, match=r"refuse_enlarged: true leaves no picture, .* (48|32) pixels"):
        params.validate(AVATARS | changed | {"refuse_enlarged": True})
    params.validate(AVATARS | {"refuse_enlarged": True})


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_reference_of_too_few_drawn_faces_is_named(split: str) -> None:
    small = AVATARS | {"batch_size": 4, "fid_split": split}
    assert params.validate(small | {"dataset_size": 20}).fid_split == split
    with pytest.raises(UserError, match=f"fid_split: {split} has 1 pictures with dataset_size: 10, .* train or all"):
        params.validate(small | {"dataset_size": 10})


def test_several_mistakes_are_told_together() -> None:
    with pytest.raises(UserError) as error:
        params.validate(AVATARS | {"lr": -1, "loss": "no_such_loss", "dropout": 0.5})
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["lr", "loss", "dropout"]


@given(st.sampled_from(sorted(AVATARS)), st.one_of(st.text(), st.floats(), st.integers(), st.lists(st.integers())))
def test_any_value_is_taken_whole_or_refused_by_name(key: str, value: object) -> None:
    try:
        checked = params.validate(AVATARS | {key: value})
    except UserError as error:
        named = ("batch_size", "crop_size", "dataset_size", "label_smoothing")  # a check across keys may name another
        assert key in str(error) or any(name in str(error) for name in named)
    else:
        assert params.validate(checked.model_dump()) == checked


@pytest.mark.usefixtures("committed_run")
def test_the_committed_file_is_the_preset_avatars() -> None:
    assert params.load(ROOT / "params.yaml").model_dump() == AVATARS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_written_whole_and_keeps_the_comments(tmp_path: Path, name: str) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    path.write_text(before)
    preset = params.load_preset(ROOT / "presets", name)
    params.write_preset(path, preset)
    assert params.load(path) == preset
    comments = re.compile(r"#.*")
    assert comments.findall(path.read_text()) == comments.findall(before)


@pytest.mark.parametrize("name", PRESETS)
def test_overrides_are_what_differs(name: str) -> None:
    present = params.load(ROOT / "params.yaml")
    preset = params.load_preset(ROOT / "presets", name)
    changed = dict(word.split("=") for word in params.overrides(present, preset))
    values = {key: yaml.safe_load(value) for key, value in changed.items()}
    assert params.validate(present.model_dump() | values) == preset
    assert set(changed) == {key for key, value in preset.model_dump().items() if getattr(present, key) != value}


def test_the_coarse_discriminator_needs_groups_of_pictures_and_no_other_norm() -> None:
    coarse = AVATARS | {"coarse_share": 0.3}
    params.validate(coarse)
    params.validate(coarse | {"batch_size": 24, "ranks": 2})
    params.validate(coarse | {"discriminator_norm": "batch", "coarse_share": 0.0, "batch_size": 18})
    with pytest.raises(UserError, match=r"batch_size: 18 is not a multiple of 4, .*, for example 20\."):
        params.validate(coarse | {"batch_size": 18})
    with pytest.raises(UserError, match=r"batch_size: 12 is not a multiple of 8, .*, for example 16\."):
        params.validate(coarse | {"batch_size": 12, "ranks": 2})
    with pytest.raises(UserError, match=r"coarse_share: 0\.3 cannot be used with discriminator_norm: spectral; give 0"):
        params.validate(coarse | {"discriminator_norm": "spectral"})


def test_an_unknown_preset_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match="no preset 'celebs'; give one of avatars, celeba"):
        params.load_preset(ROOT / "presets", "celebs")


def test_a_preset_is_not_written_over_a_file_with_an_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + "dropout: 0.5\n")
    before = path.read_text()
    with pytest.raises(UserError, match="dropout"):
        params.write_preset(path, params.load_preset(ROOT / "presets", "celeba"))
    assert path.read_text() == before


def test_the_command_line_writes_presets_from_any_folder(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    command = [sys.executable, "-m", "dcgan", "preset"]
    inside = project.folder / "data"
    run = subprocess.run([*command, "udacity"], cwd=inside, env=project.env, capture_output=True, text=True, check=True)
    assert run.stdout == "params.yaml now holds the preset udacity.\n"
    assert params.load(project.folder / "params.yaml").architecture == "linear"
    run = subprocess.run(
        [*command, "paper", "--overrides"], cwd=inside, env=project.env, capture_output=True, text=True, check=True
    )
    assert "-S architecture=conv" in run.stdout and "-S ngf=128" in run.stdout
    outside = subprocess.run([*command, "paper"], cwd=tmp_path, env=project.env, capture_output=True, text=True)
    assert outside.returncode == 1 and "not inside this project" in outside.stderr
    assert "Traceback" not in outside.stderr
