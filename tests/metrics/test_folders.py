"""Folders of pictures, and the commands that write and compare them, against Pillow and pytorch-fid's own command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from pictures import claiming_png, drawn, encoded
from PIL import Image
from project import ROOT
from pytorch_fid import fid_score
from torch import Tensor, nn

from dcgan import networks, params
from dcgan.__main__ import main
from dcgan.data import images
from dcgan.metrics import feature_networks, folders, weights
from dcgan.metrics import kept as statistics_files
from dcgan.metrics.frechet import Statistics, frechet_distance
from dcgan.sampling import draw_latents, generated, random_state
from dcgan.system.choices import FidNetwork
from dcgan.system.errors import Interrupted, UserError
from dcgan.system.files import sha256

Pixels = npt.NDArray[np.uint8]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def not_deterministic_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands set up their process, which is that of all tests here."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def one_sentence(text: object) -> str:
    assert isinstance(text, str) and text.endswith(".") and "\n" not in text, text
    return text


def refusal(*arguments: str | Path) -> str:
    """What a command says that ends with an exit status of 1."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return one_sentence(ended.value.code)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def pixels_in(folder: Path) -> list[Pixels]:
    """By Pillow, in the order of names."""
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def smooth(seed: int, low: int, high: int) -> Pixels:
    """A few soft patches of colour, 32x32."""
    patches = np.random.default_rng(seed).integers(low, high, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(patches).resize((32, 32), Image.Resampling.BICUBIC))


def fill(folder: Path, pictures: list[Pixels]) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


# Reading a folder.

MODES = ("RGB", "L", "LA", "RGBA", "P", "PA", "1", "I;16")


def turned() -> bytes:
    """A JPEG that EXIF says lies on its side: pytorch-fid does not turn it."""
    exif = Image.Exif()
    exif[0x0112] = 3
    return encoded(drawn("RGB", 20, 16, 4), "JPEG", exif=exif)


def see_through() -> bytes:
    return encoded(drawn("P", 20, 16, 5), transparency=3)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Pictures of all kinds, written in another order than that of their names, and files that are none."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for i, mode in enumerate(MODES):
        form = "TIFF" if mode == "PA" else "PNG"  # whatever its name says
        (folder / f"{len(MODES) - i}.png").write_bytes(encoded(drawn(mode, 20, 16, i), form))
    for suffix, form in (("jpg", "JPEG"), ("jpeg", "JPEG"), ("bmp", "BMP"), ("tif", "TIFF"), ("tiff", "TIFF")):
        (folder / f"b.{suffix}").write_bytes(encoded(drawn("RGB", 20, 16, 3), form))
    for suffix, mode, form in (("ppm", "RGB", "PPM"), ("pgm", "L", "PPM"), ("webp", "RGB", "WEBP")):
        (folder / f"a.{suffix}").write_bytes(encoded(drawn(mode, 20, 16, 2), form))
    (folder / "cmyk.jpg").write_bytes(encoded(drawn("CMYK", 20, 16, 6), "JPEG"))
    (folder / "10.png").write_bytes(turned())
    (folder / "see through.png").write_bytes(see_through())
    for name in ("notes.txt", "a.png.part", "png", "a.gif", "a.npy", "._1.png"):
        (folder / name).write_bytes(b"no picture")
    (folder / "more").mkdir()
    (folder / "more" / "1.png").write_bytes(b"no picture")
    return folder


def pytorch_fids(folder: Path) -> list[Pixels]:
    """The files that its `compute_statistics_of_path` finds, as its data set opens them."""
    files = sorted(file for ext in fid_score.IMAGE_EXTENSIONS for file in folder.glob(f"*.{ext}"))
    opened = fid_score.ImagePathDataset(files)
    return [np.asarray(opened[i]) for i in range(len(files))]


def test_the_suffixes_are_pytorch_fids() -> None:
    assert {suffix[1:] for suffix in folders.SUFFIXES} == fid_score.IMAGE_EXTENSIONS


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
def test_a_folder_is_read_as_pytorch_fid_reads_it(odd: Path) -> None:
    before = everything_in(odd)
    read, count, size, left_out, not_theirs = folders.open_folder(odd)
    (odd / "._1.png").unlink()  # at which pytorch-fid stops
    before.pop("._1.png")
    expected = pytorch_fids(odd)
    assert count == len(expected) == len(MODES) + 11 and size == "20x16" and not_theirs == 0
    assert folders.counted(left_out) == "1 .gif, 1 .npy, 1 .part, 1 .txt, 1 hidden, 1 subfolder, 1 without ending"
    found = read(slice(0, count))
    assert found.dtype == torch.uint8 and found.shape == (count, 16, 20, 3)
    for mine, theirs in zip(found.numpy(), expected, strict=True):
        assert np.array_equal(mine, theirs)
    assert everything_in(odd) == before


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
def test_any_part_of_a_folder_can_be_read(odd: Path) -> None:
    read, count, *_ = folders.open_folder(odd)
    everything = read(slice(0, count))
    for start, stop in ((0, 1), (3, 9), (count - 2, count)):
        assert torch.equal(read(slice(start, stop)), everything[start:stop])


def test_pictures_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    levels = {"b.png": 1, "a.png": 0, "c.bmp": 4, "b.webp": 3, "b.ppm": 2}
    for name, level in levels.items():
        Image.new("RGB", (4, 4), (level * 40,) * 3).save(tmp_path / name)
    read, *_ = folders.open_folder(tmp_path)
    assert (read(slice(0, 5))[:, 0, 0, 0] / 40).round().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("recursive", [False, True])
def test_capitals_are_read_and_subfolders_if_wanted(tmp_path: Path, recursive: bool) -> None:
    """What pytorch-fid would leave out is counted, and so is what is left out here."""
    folder = fill(tmp_path / "faces", [smooth(i, 0, 256) for i in range(3)])
    shutil.copy(folder / "2.png", folder / "3.PNG")
    fill(folder / "more", [smooth(i, 0, 256) for i in (4, 5)])
    fill(folder / "more" / "still", [smooth(6, 0, 256)])
    for name in ("._0.png", "more/._0.png", "more/Thumbs.db", "more/notes.txt"):
        (folder / name).write_bytes(b"no picture")
    read, count, _, left_out, not_theirs = folders.open_folder(folder, recursive)
    assert (count, not_theirs) == ((7, 4) if recursive else (4, 1))
    assert left_out == ({"hidden": 3, ".txt": 1} if recursive else {"hidden": 1, "subfolder": 1})
    expected = [smooth(i, 0, 256) for i in ((0, 1, 2, 2, 4, 5, 6) if recursive else (0, 1, 2, 2))]
    assert np.array_equal(read(slice(0, count)).numpy(), np.stack(expected))


def no_folder(folder: Path) -> None:
    pass


def a_file(folder: Path) -> None:
    folder.write_bytes(encoded(drawn("RGB", 8, 8, 0)))


def nothing(folder: Path) -> None:
    folder.mkdir()


def one_picture(folder: Path) -> None:
    fill(folder, [smooth(0, 0, 200)])


def no_pictures(folder: Path) -> None:
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.txt").write_text("no picture")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (no_folder, "no such"),
        (a_file, "no such"),
        (nothing, " no "),
        (one_picture, "1 picture,"),
        (no_pictures, " no "),
    ],
)
def test_a_folder_without_pictures_is_named(tmp_path: Path, make: Callable[[Path], None], word: str) -> None:
    folder = tmp_path / "faces"
    make(folder)
    with pytest.raises(UserError) as error:
        folders.open_folder(folder)
    assert one_sentence(str(error.value)).startswith(f"{folder}: ") and word in str(error.value)


NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
UNREADABLE = {
    "empty.png": b"",
    "text.png": b"These are words.\n",
    "half.png": encoded(Image.fromarray(NOISE))[:1500],
    "header.png": encoded(Image.fromarray(NOISE))[:40],
    "damaged.png": encoded(Image.fromarray(NOISE)).replace(b"IDAT", b"IDAX"),
    "short header.png": encoded(Image.fromarray(NOISE)).replace(b"\0\0\0\x0dIHDR", b"\0\0\0\x06IHDR"),
    "half.jpg": encoded(Image.fromarray(NOISE), "JPEG")[:700],
    "half.bmp": encoded(Image.fromarray(NOISE), "BMP")[:700],
    "letters for numbers.ppm": b"P6\n3x 32\n255\n" + NOISE.tobytes(),
    "half.pgm": b"P2\n32 32\n255\n1 2 3\n",
    "enormous.png": claiming_png(20_000, 20_000),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, name: str, first: bool) -> None:
    folder = fill(tmp_path / "faces", [NOISE] * 2)
    broken = folder / (f" {name}" if first else name)
    broken.write_bytes(UNREADABLE[name])
    with pytest.raises(UserError) as error:
        read, count, *_ = folders.open_folder(folder)
        read(slice(0, count))
    assert one_sentence(str(error.value)).startswith(f"{broken}: ")


def test_a_folder_that_is_called_as_a_picture_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "faces", [NOISE] * 2)
    (folder / "9.png").mkdir()
    read, count, *_ = folders.open_folder(folder)
    with pytest.raises(UserError) as error:
        read(slice(0, count))
    assert one_sentence(str(error.value)).startswith(f"{folder / '9.png'}: ")


@pytest.mark.parametrize("shape", [(31, 32), (32, 31), (64, 64)])
def test_a_picture_of_another_size_is_named(tmp_path: Path, shape: tuple[int, int]) -> None:
    folder = fill(tmp_path / "faces", [NOISE] * 3)
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(folder / "7.png")
    read, count, *_ = folders.open_folder(folder)
    assert len(read(slice(0, 3))) == 3  # up to there nothing is wrong
    with pytest.raises(UserError) as error:
        read(slice(2, count))
    sentence = one_sentence(str(error.value))
    assert sentence.startswith(f"{folder / '7.png'}: ")
    assert "0.png" in sentence and f"{shape[1]}x{shape[0]}" in sentence and "32x32" in sentence


# Writing a folder.


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("count", [1, 64, 70])
def test_what_is_written_reads_back(tmp_path: Path, nc: int, count: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (count, 6, 5, nc), dtype=np.uint8)
    asked: list[int] = []

    def some(numbers: slice) -> Tensor | Pixels:
        asked.extend(range(numbers.start, numbers.stop))
        return torch.from_numpy(pictures[numbers]) if numbers.start else pictures[numbers]

    folder = tmp_path / "new" / "faces"
    folders.write_folder(folder, some, count, "writing")
    assert asked == list(range(count))  # each once, none beyond
    assert [path.name for path in sorted(folder.iterdir())] == [f"{i:06d}.png" for i in range(count)]
    found = np.stack(pixels_in(folder)).reshape(pictures.shape)
    assert np.array_equal(found, pictures)
    assert all(Image.open(path).format == "PNG" for path in folder.iterdir())
    assert list(folder.parent.iterdir()) == [folder]
    if count > 1:
        read, there, *_ = folders.open_folder(folder)
        assert there == count
        assert np.array_equal(read(slice(0, count)).numpy(), np.broadcast_to(pictures, (count, 6, 5, 3)))


def black(numbers: slice) -> Pixels:
    return np.zeros((numbers.stop - numbers.start, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("file", ["000000.png", ".hidden", "inside/notes.txt"])
def test_a_folder_with_anything_in_it_is_refused_and_untouched(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "faces"
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text("dear")
    with pytest.raises(UserError) as error:
        folders.write_folder(folder, black, 3, "writing")
    assert one_sentence(str(error.value)).startswith(f"{folder}: ")
    assert everything_in(tmp_path) == {f"faces/{file}": b"dear"}


def test_a_file_is_no_folder_to_write(tmp_path: Path) -> None:
    (tmp_path / "faces").write_text("dear")
    with pytest.raises(UserError):
        folders.write_folder(tmp_path / "faces", black, 3, "writing")
    assert everything_in(tmp_path) == {"faces": b"dear"}


def test_a_folder_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    for name in ("file/faces", "file/more/faces"):
        with pytest.raises(UserError) as error:
            folders.write_folder(tmp_path / name, black, 3, "writing")
        assert one_sentence(str(error.value)).startswith(f"{tmp_path / name}: ")
    assert everything_in(tmp_path) == {"file": b"dear"}


def test_an_empty_folder_is_as_good_as_a_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    folders.write_folder(folder, black, 3, "writing")
    assert len(pixels_in(folder)) == 3


@pytest.mark.parametrize("name", [".", "link"])
def test_an_empty_folder_by_another_name_is_filled_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder if name == "." else tmp_path)
    try:
        folders.write_folder(Path(name), black, 3, "writing")
    except UserError as error:
        one_sentence(str(error))
    else:
        assert len(pixels_in(tmp_path / "faces" if name == "." else tmp_path / name)) == 3


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), Interrupted(15), UserError("no.")])
@pytest.mark.parametrize("there", [True, False])
def test_an_interrupted_write_leaves_no_folder(tmp_path: Path, error: BaseException, there: bool) -> None:
    """None but the empty one that was there."""

    def until_the_second_batch(numbers: slice) -> Pixels:
        if numbers.start:
            raise error
        return black(numbers)

    folder = tmp_path / "faces"
    if there:
        folder.mkdir()
    with pytest.raises(type(error)):
        folders.write_folder(folder, until_the_second_batch, 100, "writing")
    assert [path.name for path in tmp_path.rglob("*")] == (["faces"] if there else [])


# The distance of two folders.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the commands take for this project, as the folder that they run in."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "dvc.yaml").touch()
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[str, float, str]:
    """The name and the number that `distance` prints, and what it says on stderr."""
    capsys.readouterr()
    main(["distance", *map(str, arguments)])
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    name, number = line.split(": ")
    return name, float(number), err


def in_their_span(a: Path, b: Path) -> float:
    """pytorch-fid's own distance of two of its .npz files, taken in the dimensions that so few pictures span.

    In all 2048 its root of a matrix takes a quarter of a minute, and is right to six digits at most.
    """
    (m1, s1), (m2, s2) = ((np.load(path)["mu"], np.load(path)["sigma"]) for path in (a, b))
    directions = np.random.default_rng(0).normal(size=(len(m1), 12))
    axes, _ = np.linalg.qr(np.concatenate([s1 @ directions, s2 @ directions, (m1 - m2)[:, None]], axis=1))
    for covariance in (s1, s2):
        assert np.trace(axes.T @ covariance @ axes) == pytest.approx(np.trace(covariance), rel=1e-9)
    return float(fid_score.calculate_frechet_distance(m1 @ axes, axes.T @ s1 @ axes, m2 @ axes, axes.T @ s2 @ axes))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Matrix is:RuntimeWarning")  # of few pictures, as pytorch-fid's command too
def test_the_distance_is_that_of_pytorch_fids_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inception_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of any project too, where the weights are given."""
    monkeypatch.chdir(tmp_path)
    a = fill(tmp_path / "a", [smooth(i, 0, 200) for i in range(10)])
    b = fill(tmp_path / "b", [smooth(100 + i, 50, 256) for i in range(10)])
    env = os.environ | {"TORCH_HOME": str(inception_weights.parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytorch_fid", "--device", "cpu", "--num-workers", "0", "--batch-size", "8"]
    saving = [[*command, "--save-stats", str(folder), f"{folder}.npz"] for folder in (a, b)]
    with subprocess.Popen(saving[0], env=env) as first, subprocess.Popen(saving[1], env=env) as second:
        name, found, err = printed(capsys, a, b, "--weights", inception_weights)
    assert first.returncode == second.returncode == 0
    assert name == "frechet_distance" and "10 pictures against 10" in err and sha256(inception_weights) in err
    assert found == pytest.approx(in_their_span(Path(f"{a}.npz"), Path(f"{b}.npz")), rel=1e-6)
    read, about = statistics_files.read(Path(f"{a}.npz"))
    assert about is None and read.mean.shape == (2048,) and read.covariance.shape == (2048, 2048)


class Means(nn.Module):
    """A feature network that costs nothing: the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.mean(dim=(2, 3)) * self.weight


@pytest.mark.parametrize(
    ("network", "published", "own", "expected"),
    [
        ("inception", True, False, "fid"),
        ("inception", True, True, "fid"),  # the published ones from another place
        ("inception", False, True, "frechet_distance"),
        ("efficientnet_lite0", True, False, "frechet_distance"),
    ],
)
def test_only_the_published_inceptions_distance_is_called_fid(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    network: FidNetwork,
    published: bool,
    own: bool,
    expected: str,
) -> None:
    digest = weights.SHA256[network] if published else "0" * 64
    file = project / "weights.pth"
    file.touch()
    asked: list[tuple[str, Path]] = []
    words: list[str | Path] = ["--weights", file] if own else []

    def load(name: str, path: Path, *_: object) -> feature_networks.FeatureNetwork:
        asked.append((name, path))
        return feature_networks.FeatureNetwork(network, digest, Means(), 3)

    monkeypatch.setattr(feature_networks, "load", load)
    monkeypatch.setattr(weights, "provide", lambda name, downloads: Path("provided"))
    pictures = {side: [smooth(i + seed, 0, 256) for i in range(70)] for side, seed in (("a", 0), ("b", 200))}
    for side in pictures:
        fill(project / side, pictures[side])
    name, found, err = printed(capsys, "a", "b", "--network", network, *words)
    assert asked == [(network, file if own else Path("provided"))]
    assert name == expected and network in err and digest in err

    def statistics(side: str) -> Statistics:
        means = np.stack(pictures[side]).mean(axis=(1, 2)) / 255
        return Statistics(70, means.mean(axis=0), np.cov(means, rowvar=False))

    assert found == pytest.approx(frechet_distance(statistics("a"), statistics("b")), rel=1e-4)


# Kept statistics.


@pytest.fixture
def measured_by_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean colour in place of a network."""

    def load(name: FidNetwork, *_: object) -> feature_networks.FeatureNetwork:
        return feature_networks.FeatureNetwork(name, weights.SHA256[name], Means(), 3)

    monkeypatch.setattr(feature_networks, "load", load)
    monkeypatch.setattr(weights, "provide", lambda name, downloads: Path("provided"))


def theirs(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Statistics as pytorch-fid reads them."""
    mean, covariance = fid_score.compute_statistics_of_path(str(path), None, 50, 3, "cpu")
    return mean, covariance


@pytest.mark.usefixtures("measured_by_means")
def test_kept_statistics_stand_for_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written here or by pytorch-fid, read here or by pytorch-fid; outside of any project."""
    monkeypatch.chdir(tmp_path)
    for side, seed in (("a", 0), ("b", 200)):
        folder = fill(tmp_path / side, [smooth(i + seed, 0, 256) for i in range(20)])
        (folder / "._0.png").write_bytes(b"no picture")
        main(["distance", "--save-stats", side, f"{side}.npz", "--crop", f"178 of {side}"])
        out, err = capsys.readouterr()
        assert out.startswith(f"{side}.npz: statistics of 20 pictures, inception") and "left out: 1 hidden" in err
    known = json.loads(Path("a.json").read_text())
    assert known == {
        **{"statistics": "a.npz", "sha256": sha256(Path("a.npz")), "network": "inception"},
        **{"weights_sha256": weights.SHA256["inception"], "arithmetic": "fp32", "count": 20, "size": "32x32"},
        "crop": "178 of a",
    }
    expected = float(fid_score.calculate_frechet_distance(*theirs(Path("a.npz")), *theirs(Path("b.npz"))))
    for words in (("a", "b"), ("a.npz", "b"), ("a", "b.npz"), ("a.npz", "b.npz")):
        name, found, err = printed(capsys, *words)
        assert name == "fid" and found == pytest.approx(expected, rel=1e-6)
        assert "20 pictures against 20" in err and weights.SHA256["inception"] in err
        assert ("178 of a, and b.npz 178 of b" in err) == (words == ("a.npz", "b.npz"))
        assert "features" not in err  # there are more pictures than dimensions

    mean, covariance = theirs(Path("b.npz"))
    np.savez_compressed("theirs.npz", mu=mean, sigma=covariance)  # as pytorch-fid's --save-stats
    name, found, err = printed(capsys, "a", "theirs.npz")
    assert name == "frechet_distance" and found == pytest.approx(expected, rel=1e-6)
    assert "theirs.npz: no .json" in err and "20 pictures against an unknown number" in err
    assert "no features: the distance is taken from eigenvalues" in err


@pytest.mark.usefixtures("measured_by_means")
def test_few_pictures_kept_are_said_to_be_less_exact(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, seed in (("a", 0), ("b", 200)):
        fill(project / side, [smooth(i + seed, 0, 256) for i in range(3)])
        main(["distance", "--save-stats", side, f"{side}.npz"])
    for words, exact in ((("a", "b"), True), (("a", "b.npz"), True), (("a.npz", "b.npz"), False)):
        assert ("no features" not in printed(capsys, *words)[2]) == exact


def kept(folder: Path, mu: npt.ArrayLike = (0, 0, 0), sigma: npt.ArrayLike = np.eye(3)) -> Path:  # noqa: B008
    np.savez_compressed(folder / "kept.npz", mu=mu, sigma=sigma)
    return folder / "kept.npz"


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.touch(), "no statistics"),
        (lambda path: path.write_text("These are words."), "no statistics"),
        (lambda path: path.write_bytes(kept(path.parent).read_bytes()[:-30]), "no statistics"),
        (lambda path: np.savez(path, mu=np.zeros(3)), "no statistics"),
        (lambda path: np.savez(path, mu=np.array([{}]), sigma=np.eye(1)), "no statistics"),  # needs pickle
        (lambda path: kept(path.parent, sigma=np.eye(4)), "shape"),
        (lambda path: kept(path.parent, mu=np.full(3, np.nan)), "not finite"),
        (lambda path: kept(path.parent).with_suffix(".json").write_text("{}"), "kept.json"),
        (lambda path: kept(path.parent).with_suffix(".json").write_text('{"sha256": "0", "statistics": ""}'), "kept."),
        (lambda path: kept(path.parent, mu=np.zeros(4), sigma=np.eye(4)), "4 dimensions"),
    ],
)
@pytest.mark.usefixtures("measured_by_means")
def test_what_is_no_statistics_is_named(project: Path, write: Callable[[Path], object], word: str) -> None:
    fill(project / "a", [NOISE] * 2)
    write(project / "kept.npz")
    said = refusal("distance", "kept.npz", "a")
    assert "kept." in said and word in said


@pytest.mark.usefixtures("measured_by_means")
def test_statistics_of_another_network_or_file_are_refused(project: Path) -> None:
    fill(project / "a", [smooth(i, 0, 256) for i in range(3)])
    main(["distance", "--save-stats", "a", "a.npz", "--network", "efficientnet_lite0"])
    said = refusal("distance", "a.npz", "a")
    assert "a.npz" in said and "efficientnet_lite0" in said and "inception" in said
    main(["distance", "a", "a.npz", "--network", "efficientnet_lite0"])
    kept(project).replace(project / "a.npz")
    assert "a.json: it describes another a.npz" in refusal("distance", "a.npz", "a")


def test_statistics_are_never_written_over_what_is_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "provide", lambda *_: pytest.fail("nothing is to be computed"))
    fill(project / "a", [NOISE] * 2)
    (project / "there.npz").write_text("dear")
    (project / "beside.json").write_text("dear")
    before = everything_in(project)
    for name in ("there.npz", "beside.npz", "a", "new", "params.yaml", "params.yaml/new.npz"):
        assert name.partition(".npz")[0] in refusal("distance", "--save-stats", "a", name)
    assert "--save-stats" in refusal("distance", "a", "a", "--crop", "178")
    assert everything_in(project) == before


def test_a_folder_is_at_no_distance_from_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of any project too, since the weights come in a package."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "a", [smooth(i, 0, 256) for i in range(6)])
    name, found, err = printed(capsys, "a", "a", "--network", "efficientnet_lite0")
    assert name == "frechet_distance" and abs(found) < 1e-4
    assert "efficientnet_lite0" in err and weights.SHA256["efficientnet_lite0"] in err


@pytest.mark.parametrize("network", ["inception", "efficientnet_lite0"])
def test_a_wrong_file_of_weights_is_named(project: Path, network: str) -> None:
    for side in ("a", "b"):
        fill(project / side, [NOISE] * 2)
    (project / "text.pth").write_text("These are words.\n")
    torch.save({"one": torch.zeros(3)}, project / "other.pth")
    for name in ("text.pth", "other.pth", "missing.pth", "a"):
        assert name in refusal("distance", "a", "b", "--network", network, "--weights", name)


def test_a_wrong_folder_is_named_before_any_weights_are_sought(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "provide", lambda *_: pytest.fail("nothing is to be fetched"))
    fill(project / "a", [NOISE] * 2)
    fill(project / "one", [NOISE])
    fill(project / "bad", [NOISE] * 2)
    (project / "bad" / "0.png").write_text("no picture")
    for name in ("missing", "one", "bad"):
        assert name in refusal("distance", "a", name)
        assert name in refusal("distance", name, "a")


def test_a_picture_of_another_size_ends_the_command(project: Path) -> None:
    fill(project / "a", [NOISE] * 2)
    fill(project / "b", [NOISE, NOISE[:16, :16]])
    said = refusal("distance", "a", "b", "--network", "efficientnet_lite0")
    assert "b/1.png" in said and "16x16" in said


# Generated faces.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = networks.Settings(image_size=32, nz=8, ngf=4, ndf=4)
    generator, discriminator = networks.build(made, random_state(0, "weights"))
    networks.estimate_batch_norm(generator, [draw_latents(made, 32, random_state(0, "batch norm"))])
    with torch.no_grad():  # fresh weights give pictures that are nearly grey
        list(generator.parameters())[-1].mul_(30)
    path = tmp_path_factory.mktemp("models") / "generator.safetensors"
    networks.save(path, generator, made, {})
    networks.save(path.with_name("discriminator.safetensors"), discriminator, made, {})
    return path


def test_generated_faces_are_those_that_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """Outside of any project too, where all is given."""
    monkeypatch.chdir(tmp_path)
    main(["generate", "--count", "5", "--seed", "3", "--model", str(model), "--out", "new/faces"])
    found = np.stack(pixels_in(tmp_path / "new" / "faces"))
    assert np.array_equal(found, generated(networks.load_generator(model), 3)(slice(0, 5)).numpy())
    assert found.shape == (5, 32, 32, 3) and found.std() > 20  # there is something to compare


def test_the_first_of_many_faces_are_the_faces_of_few(tmp_path: Path, model: Path) -> None:
    """By the command as users call it; in a batch of another size, a level may be rounded the other way."""
    words = ["generate", "--seed", "3", "--model", str(model)]
    command = [sys.executable, "-m", "dcgan", *words, "--count", "3", "--out", "few"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and not result.stdout, result.stderr
    main([*words, "--count", "70", "--out", str(tmp_path / "many")])
    few, many = (np.stack(pixels_in(tmp_path / name)).astype(int) for name in ("few", "many"))
    assert len(few) == 3 and len(many) == 70
    assert np.abs(few - many[:3]).max() <= 1
    assert len(np.unique(many, axis=0)) == 70


def test_the_projects_generator_and_seed_are_taken_if_none_is_given(project: Path, model: Path) -> None:
    (project / "models").mkdir()
    shutil.copy(model, project / "models")
    seed = params.load(project / "params.yaml").seed
    main(["generate", "--count", "2", "--out", "by default"])
    main(["generate", "--count", "2", "--out", "by name", "--model", str(model), "--seed", str(seed)])
    main(["generate", "--count", "2", "--out", "another", "--model", str(model), "--seed", str(seed + 1)])
    assert everything_in(project / "by default") == everything_in(project / "by name")
    assert everything_in(project / "by default") != everything_in(project / "another")


@pytest.mark.parametrize("count", ["0", "-3"])
def test_no_faces_cannot_be_generated(tmp_path: Path, model: Path, count: str) -> None:
    out = tmp_path / "faces"
    said = refusal("generate", "--count", count, "--seed", "3", "--model", model, "--out", out)
    assert "--count" in said and count in said
    assert not out.exists()


def test_a_model_that_is_not_there_is_named(project: Path) -> None:
    words = ["generate", "--count", "2", "--out", "faces"]
    assert "missing.safetensors" in refusal(*words, "--model", "missing.safetensors")
    assert "models/generator.safetensors" in refusal(*words)
    assert sorted(path.name for path in project.iterdir()) == ["dvc.yaml", "params.yaml"]


def test_what_is_no_generator_is_named(project: Path, model: Path) -> None:
    (project / "text.safetensors").write_text("These are words.\n")
    shutil.copy(model.with_name("discriminator.safetensors"), project)
    (project / "half.safetensors").write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    for name in ("text.safetensors", "half.safetensors", "discriminator.safetensors"):
        assert name in refusal("generate", "--count", "2", "--seed", "3", "--model", name, "--out", "faces")
    assert not (project / "faces").exists()


def test_faces_are_never_written_into_what_is_there(project: Path, model: Path, faces: Path) -> None:
    shutil.copytree(faces, project / "data" / "faces")
    (project / "dear").mkdir()
    (project / "dear" / "000000.png").write_text("dear")
    before = everything_in(project)
    assert "dear" in refusal("generate", "--count", "2", "--seed", "3", "--model", model, "--out", "dear")
    assert "dear" in refusal("faces", "--out", "dear")
    assert "params.yaml" in refusal("faces", "--out", "params.yaml")
    assert everything_in(project) == before


def test_commands_outside_of_the_project_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["faces"], ["generate", "--count", "2"], ["generate", "--count", "2", "--model", str(model)]):
        assert str(tmp_path) in refusal(*words, "--out", "new")
    assert not list(tmp_path.iterdir())


# Real faces.


@pytest.mark.parametrize("split", ["test", "valid"])
def test_real_faces_are_those_that_are_trained_on(project: Path, faces: Path, split: str) -> None:
    shutil.copytree(faces, project / "data" / "faces")
    main(["faces", "--split", split, "--out", "real"])
    assert np.array_equal(np.stack(pixels_in(project / "real")), images.open_faces(faces, split))
    assert everything_in(project / "data" / "faces") == everything_in(faces)


def write_faces(project: Path, splits: dict[str, Pixels]) -> None:
    folder = project / "data" / "faces"
    folder.mkdir(parents=True)
    np.save(folder / "faces.npy", np.concatenate(list(splits.values())))
    rows = [split for split, pictures in splits.items() for _ in pictures]
    pd.DataFrame({"split": rows}).to_parquet(folder / "faces.parquet")


def test_the_faces_of_all_splits_and_by_default_of_the_train_split(project: Path) -> None:
    random = np.random.default_rng(0)
    splits = {
        name: random.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
        for name, n in (("train", 66), ("valid", 2), ("test", 3))
    }
    write_faces(project, splits)
    main(["faces", "--out", "train"])
    main(["faces", "--split", "all", "--out", "all"])
    assert np.array_equal(np.stack(pixels_in(project / "train")), splits["train"][..., 0])
    assert np.array_equal(np.stack(pixels_in(project / "all")), np.concatenate(list(splits.values()))[..., 0])


def test_a_split_without_faces_is_named(project: Path) -> None:
    write_faces(project, {"train": np.zeros((3, 8, 8, 3), np.uint8)})
    assert "test" in refusal("faces", "--split", "test", "--out", "real")
    assert not (project / "real").exists()
    main(["faces", "--split", "all", "--out", "real"])
    assert len(pixels_in(project / "real")) == 3


def test_faces_that_are_not_there_are_missed(project: Path) -> None:
    assert "data/faces" in refusal("faces", "--out", "real")
    assert not (project / "real").exists()
