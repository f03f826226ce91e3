"""`dcgan export`: the folder draws the same faces without the project, and says nothing of another generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bare import bare_python, run_bare
from PIL import Image
from project import ROOT, Project
from safetensors.torch import load_file

from dcgan import networks, sampling
from dcgan.networks import Settings
from dcgan.system.files import sha256

FILES = (
    "README.md", "generator.onnx", "generator.pt2", "generator.safetensors", "latents.npy", "latents.safetensors",
    "metrics.json", "params.yaml", "samples.png",
)  # fmt: skip


def export(project: Project, *words: str) -> str:
    """Exports; returns what the command said."""
    done = project.run("python", "-m", "dcgan", "export", *words)
    assert done.returncode == 0, done.stdout
    return done.stdout


def refused(project: Project, *words: str) -> str:
    done = project.run("python", "-m", "dcgan", "export", *words)
    assert done.returncode == 1 and done.stdout.count("\n") == 1, done.stdout
    return done.stdout


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a README."""
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


def three_lines(folder: Path, of: str) -> str:
    """The three lines of Python in a README that import `of`."""
    blocks = [block for block in (folder / "README.md").read_text().split("\n\n") if block.startswith("    import")]
    (block,) = [block for block in blocks if of in block]
    lines = [line.removeprefix("    ") for line in block.splitlines()]
    assert len(lines) == 3
    return "\n".join(lines)


@pytest.fixture(scope="module")
def project(reproduced: Project) -> Project:
    """The reproduced project, which nobody may change."""
    return Project(reproduced.folder).warm()


@pytest.fixture(scope="module")
def exported(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "shared"
    said = export(project, str(folder))
    assert "left out" not in said and "differ from PyTorch's by at most" in said
    return folder


@pytest.fixture(scope="module")
def generated(project: Project, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The faces (64, H, W, C) that `dcgan generate` writes."""
    out = tmp_path_factory.mktemp("generate") / "faces"
    project.run("python", "-m", "dcgan", "generate", "--count", "64", "--out", str(out), check=True)
    return np.stack([np.asarray(Image.open(path)) for path in sorted(out.iterdir())])


def test_the_folder_holds_the_generator_with_what_is_recorded_of_it(project: Project, exported: Path) -> None:
    assert tuple(sorted(path.name for path in exported.iterdir())) == FILES
    assert (exported / "generator.safetensors").read_bytes() == project.read("models/generator.safetensors")
    assert json.loads((exported / "metrics.json").read_text()) == json.loads(project.read("reports/metrics.json"))
    theirs = yaml.safe_load(project.read("params.yaml"))
    assert yaml.safe_load((exported / "params.yaml").read_text()) == theirs
    latents = np.load(exported / "latents.npy")
    settings = networks.load_generator(exported / "generator.safetensors").settings
    torch.testing.assert_close(
        torch.from_numpy(latents), sampling.numbered_latents(settings, theirs["seed"], slice(0, 64)), rtol=0, atol=0
    )
    assert torch.equal(load_file(exported / "latents.safetensors")["latents"], torch.from_numpy(latents))


def test_the_pictures_are_those_that_generate_writes(exported: Path, generated: np.ndarray) -> None:
    sheet, side = np.asarray(Image.open(exported / "samples.png")), generated.shape[1]
    cells = [(2 + row * (side + 2), 2 + column * (side + 2)) for row in range(8) for column in range(8)]
    shown = np.stack([sheet[top : top + side, left : left + side] for top, left in cells])
    np.testing.assert_array_equal(shown, generated)


def test_the_model_card_has_the_metadata_of_the_hub_and_the_distance_with_its_floor(
    project: Project, exported: Path
) -> None:
    metadata, text = card(exported)
    metrics = json.loads(project.read("reports/metrics.json"))
    assert metadata["license"] == "mit" and metadata["pipeline_tag"] == "unconditional-image-generation"
    assert metadata["datasets"] == ["avatars"] and metadata["library_name"] == "pytorch" and "dcgan" in metadata["tags"]
    assert metadata["metrics"] == ["frechet_distance"]
    (result,) = metadata["model-index"][0]["results"]
    values = {each["type"]: each["value"] for each in result["metrics"]}
    assert values["frechet_distance"] == metrics["frechet_distance"]
    assert values["frechet_distance_floor"] == metrics["frechet_distance_floor"]
    assert f"**{metrics['frechet_distance']:g}**" in text and f"{metrics['frechet_distance_floor']:g}" in text
    assert "MIT (python_avatars)" in text and "(not FID)" in text and "dcgan preset quick" in text


def test_nothing_in_the_folder_names_a_path_of_this_machine(project: Project, exported: Path) -> None:
    for path in exported.iterdir():
        data = path.read_bytes()
        assert str(project.folder).encode() not in data and str(ROOT).encode() not in data, path


def test_a_folder_that_is_not_empty_is_refused_and_an_empty_one_is_used(project: Project, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    assert "is not an empty folder; give a new or empty one." in refused(project, str(tmp_path / "full"))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["note"]
    assert "is not a folder" in refused(project, str(tmp_path / "full" / "note" / "below"))
    (tmp_path / "empty").mkdir()
    export(project, str(tmp_path / "empty"), "--seed", "7")
    seven = np.load(tmp_path / "empty" / "latents.npy")
    expected = sampling.numbered_latents(Settings(nz=seven.shape[1]), 7, slice(0, 64))
    np.testing.assert_array_equal(seven, expected.numpy())
    assert not list(tmp_path.glob(".*"))


def test_a_missing_or_foreign_file_is_refused_in_one_sentence(project: Project, tmp_path: Path) -> None:
    said = refused(project, str(tmp_path / "out"), "--model", "nothing.safetensors")
    assert said.startswith("nothing.safetensors: there is no such file;")
    (tmp_path / "text.safetensors").write_text("no weights")
    refused(project, str(tmp_path / "out"), "--model", str(tmp_path / "text.safetensors"))
    said = refused(project, str(tmp_path / "out"), "--model", "models:/dcgan-avatars@nobody")
    assert "the store has no such generator" in said and "dcgan-avatars" in said
    assert not (tmp_path / "out").exists()


def test_metrics_of_another_generator_are_left_out_and_named(project: Project, tmp_path: Path) -> None:
    copy = project.copied_to(tmp_path / "project").warm()
    # The metrics of another evaluation, as after `git checkout reports`.
    metrics = json.loads(copy.read("reports/metrics.json"))
    (copy.folder / "reports/metrics.json").write_text(json.dumps(metrics | {"frechet_distance": 1.0}))
    said = export(copy, str(tmp_path / "edited"))
    assert "reports/metrics.json: it does not belong to this generator" in said and said.count("left out") == 1
    assert not (tmp_path / "edited" / "metrics.json").exists() and (tmp_path / "edited" / "params.yaml").exists()
    assert "It was not measured" in card(tmp_path / "edited")[1] and "model-index" not in card(tmp_path / "edited")[0]
    # Another generator in the place of the trained one.
    generator, _ = networks.build(Settings(image_size=32, ngf=8, nz=100), sampling.random_state(0, "other"))
    networks.save(copy.folder / "models/generator.safetensors", generator, generator.settings, {})
    said = export(copy, str(tmp_path / "other"))
    assert "dcgan export" not in said and "dvc.lock does not list it" in said
    metadata, text = card(tmp_path / "other")
    assert metadata["license"] == "other" and "datasets" not in metadata and "nor under which licence" in text
    assert not {"metrics.json", "params.yaml"} & {path.name for path in (tmp_path / "other").iterdir()}


def test_a_registered_model_is_exported_by_its_alias_with_the_metrics_of_its_run(
    project: Project, exported: Path, tmp_path: Path
) -> None:
    champion = ("--model", "models:/dcgan-avatars@champion")
    export(project, str(tmp_path / "champion"), *champion)
    assert sha256(tmp_path / "champion" / "generator.safetensors") == sha256(exported / "generator.safetensors")
    assert (tmp_path / "champion" / "README.md").read_bytes() == (exported / "README.md").read_bytes()
    # Where dvc.lock knows another result, the run knows this one.
    copy = project.copied_to(tmp_path / "project").warm()
    (copy.folder / "dvc.lock").unlink()
    said = export(copy, str(tmp_path / "run"), *champion)
    assert "left out" not in said
    there = json.loads((exported / "metrics.json").read_text())
    here = json.loads((tmp_path / "run" / "metrics.json").read_text())
    distances = "frechet_distance", "frechet_distance_floor"
    for name in (*distances, "samples", "network", "reference_split", "sample_precision"):
        assert here[name] == there[name], name
    params = [yaml.safe_load((folder / "params.yaml").read_text()) for folder in (tmp_path / "run", exported)]
    assert params[0]["lr"] == params[1]["lr"] and params[0]["crop_size"] is None and params[0]["mirror"] is False


@pytest.mark.long
def test_the_three_lines_draw_the_same_faces_in_an_environment_with_torch_and_safetensors_alone(
    exported: Path, generated: np.ndarray, tmp_path: Path
) -> None:
    python = bare_python(tmp_path / "venv", "torch", "safetensors")
    folder = shutil.copytree(exported, tmp_path / "shared")
    code = three_lines(folder, "torch")
    absent = "; ".join(f"assert find_spec({name!r}) is None" for name in ("dcgan", "numpy", "onnxruntime"))
    code = f"from importlib.util import find_spec; {absent}\n{code}\n"
    code += 'open("faces", "wb").write(bytes(faces.flatten().tolist())); print(*faces.shape)'
    shape = [int(side) for side in run_bare(python, code, folder).split()]
    faces = np.frombuffer((folder / "faces").read_bytes(), np.uint8).reshape(shape)
    np.testing.assert_array_equal(faces, generated)


@pytest.mark.long
def test_the_three_lines_draw_the_same_faces_in_an_environment_with_onnxruntime_alone(
    exported: Path, generated: np.ndarray, tmp_path: Path
) -> None:
    python = bare_python(tmp_path / "venv", "onnxruntime", "pillow")
    folder = shutil.copytree(exported, tmp_path / "shared")
    absent = "; ".join(f"assert find_spec({name!r}) is None" for name in ("dcgan", "torch", "safetensors", "onnx"))
    code = f"from importlib.util import find_spec; {absent}\n{three_lines(folder, 'onnxruntime')}\n"
    code += 'np.save("faces.npy", faces); from PIL import Image; Image.fromarray(faces[0]).save("face.png")'
    run_bare(python, code, folder)
    faces = np.load(folder / "faces.npy")
    assert faces.dtype == np.uint8 and np.abs(faces.astype(int) - generated).max() <= 1
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "face.png")), faces[0])
