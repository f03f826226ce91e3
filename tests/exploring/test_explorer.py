"""What the explorer's page computes."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import ROOT

from dcgan.data import images
from dcgan.exploring import direction_file
from dcgan.exploring import explorer as ex
from dcgan.exploring.principal import principal_directions
from dcgan.networks import Settings, build, save
from dcgan.sampling import random_state, refresh_batch_norm
from dcgan.system.errors import UserError
from dcgan.system.files import sha256

pytestmark = pytest.mark.usefixtures("one_thread")
SEED = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(nz=8, ngf=4, ndf=4)
    generator = build(settings, random_state(1, "weights"))[0]
    refresh_batch_norm(generator, 1, batches=1)
    path = tmp_path_factory.mktemp("model") / "generator.safetensors"
    save(path, generator.eval(), settings, {"train_split": "train"})
    return path


def explorer(model: Path, faces: Path = Path("none")) -> ex.Explorer:
    return ex.Explorer(model, model.with_name("directions.safetensors"), faces, Path("none"))


def test_a_seed_gives_the_faces_of_dcgan_generate(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dcgan", "generate", "--count", "16", "--seed", str(SEED)]
    command += ["--model", str(model), "--out", str(tmp_path / "generated")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    written = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "generated").iterdir())]
    page = explorer(model)
    assert np.array_equal(page.faces(page.latents(SEED, [0] * len(page.names))), np.stack(written))


def test_a_slider_moves_every_face(model: Path) -> None:
    page = explorer(model)
    still, moved = ([0.0] * len(page.names), [2.0, *[0.0] * (len(page.names) - 1)])
    assert not np.isclose(page.latents(SEED, still), page.latents(SEED, moved)).all(axis=1).any()


def test_directions_of_another_generator_are_not_used(model: Path, tmp_path: Path) -> None:
    generator = Path(shutil.copy(model, tmp_path))
    vectors = principal_directions(explorer(model).generator, 3)[0]
    found = direction_file.Directions(["Smiling"], vectors[:1], vectors)
    file = tmp_path / "directions.safetensors"
    direction_file.save(file, found, sha256(model))
    assert ex.Explorer(generator, file, tmp_path, tmp_path).names == [
        "Smiling",
        "principal 1",
        "principal 2",
        "principal 3",
    ]
    direction_file.save(file, found, "0" * 64)
    assert ex.Explorer(generator, file, tmp_path, tmp_path).names == [f"principal {k + 1}" for k in range(8)]


def test_a_walk_goes_from_one_face_to_the_other(model: Path) -> None:
    page = explorer(model)
    latents = page.latents(SEED, [0] * len(page.names))
    path = page.walk(latents[2], latents[7])
    ends = page.faces(latents[[2, 7]]).astype(int)
    assert np.abs(path[[0, -1]] - ends).max() <= 1 and len(path) == ex.STEPS
    frames = Image.open(io.BytesIO(ex.gif(path)))
    assert getattr(frames, "n_frames", 1) == 2 * ex.STEPS - 2 and frames.size == (64, 64)


def test_a_training_face_is_nearest_to_itself(model: Path, faces: Path) -> None:
    train = images.open_faces(faces, "train")
    found, apart = explorer(model, faces).nearest(np.array(train[7]))
    assert np.array_equal(found[0], train[7]) and apart == sorted(apart) and len(found) == ex.NEAREST


def test_without_training_faces_a_sentence_says_how_to_get_them(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc pull"):
        explorer(model, tmp_path).nearest(np.zeros((64, 64, 3), np.uint8))


def test_an_upload_becomes_the_face_that_the_crop_makes(model: Path, raw: Path, faces: Path) -> None:
    import zipfile

    with zipfile.ZipFile(raw / "img_align_celeba.zip") as archive:
        data = archive.read("img_align_celeba/000001.jpg")
    assert np.array_equal(explorer(model).read("a.jpg", data), images.open_faces(faces, "all")[0])


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut off", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_gets_a_sentence(model: Path, data: bytes) -> None:
    with pytest.raises(UserError, match=r"^me.jpg: .*; give another picture\.$"):
        explorer(model).read("me.jpg", data)


def test_a_picture_is_saved_as_it_is() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(ex.png(picture)))), picture)
