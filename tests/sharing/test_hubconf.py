"""`torch.hub.load` of a clone gives the generator of its run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from project import ROOT, Project

from dcgan import networks, sampling
from dcgan.networks import Settings

LOAD = "import torch; generator = torch.hub.load({clone!r}, 'generator', source='local'{path})\n"


@pytest.fixture(scope="module")
def clone(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "clone"
    subprocess.run(["git", "clone", "-q", str(reproduced.folder), str(folder)], check=True)
    return folder


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a folder, with no way to this project's code but the clone's."""
    without = f"import sys; sys.path = [p for p in sys.path if p != {str(ROOT / 'src')!r}]\n"
    command = [sys.executable, "-c", without + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_generator_of_a_clone_draws_its_faces(clone: Path, reproduced: Project, tmp_path: Path) -> None:
    (clone / "models").mkdir(exist_ok=True)
    (clone / "models/generator.safetensors").write_bytes(reproduced.read("models/generator.safetensors"))
    code = LOAD.format(clone=str(clone), path="")
    code += "import sys, numpy; print(sys.modules['dcgan'].__file__)\n"
    code += "latents = torch.from_numpy(numpy.load('latents.npy'))\n"
    code += "numpy.save('pictures.npy', generator(latents).numpy())"
    expected = networks.load_generator(reproduced.folder / "models/generator.safetensors")
    latents = sampling.numbered_latents(expected.settings, 3, slice(0, 4))
    np.save(tmp_path / "latents.npy", latents.numpy())
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(clone / "src/dcgan/__init__.py")
    np.testing.assert_array_equal(np.load(tmp_path / "pictures.npy"), expected(latents).detach().numpy())


def test_another_file_can_be_named(clone: Path, tmp_path: Path) -> None:
    generator, _ = networks.build(Settings(image_size=32, nz=7, ngf=4), sampling.random_state(0, "other"))
    networks.save(tmp_path / "mine.safetensors", generator, generator.settings, {})
    code = LOAD.format(clone=str(clone), path=", path='mine.safetensors'") + "print(generator.settings.nz)"
    assert python(code, tmp_path).stdout.strip() == "7"


def test_a_clone_without_its_generator_says_how_to_get_it(clone: Path, tmp_path: Path) -> None:
    (clone / "models/generator.safetensors").unlink(missing_ok=True)
    done = python(LOAD.format(clone=str(clone), path=""), tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.endswith("there is no such file; get it with `dvc pull` or `make repro`.")
    done = python(LOAD.format(clone=str(clone), path=", path='nothing'"), tmp_path)
    assert done.stderr.strip().splitlines()[-1].endswith("give the path of a generator.safetensors file.")
