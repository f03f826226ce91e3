"""Packing: the same bytes by any number of workers, bad pictures named, nothing written by halves."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from pictures import drawn, encoded
from PIL import Image

from dcgan.data import card as data_card
from dcgan.data import decoding, images, packing
from dcgan.data.images import Pixels
from dcgan.data.index import Source, write_index, zip_member
from dcgan.system import worker_pool
from dcgan.system.errors import UserError, about_disk
from dcgan.system.files import atomic

SOURCE = Source("drawn", "none", "", "")


class Packed(NamedTuple):
    raw: Path
    faces: Path
    card: dict[str, Any]


def pack(raw: Path, faces: Path, crop: int | None, nc: int, most_bad: float, workers: int | None = None) -> Packed:
    """The crop to 32x32 and its data card."""
    found = packing.pack(raw, faces, crop, 32, nc, most_bad, workers)
    card = data_card.describe(raw, faces, found, {"crop_size": crop, "image_size": 32, "nc": nc})
    return Packed(raw, faces, card)


COUNTS = {"train": 590, "valid": 20, "test": 6}


def colour(i: int) -> tuple[int, int, int]:
    return i % 256, i // 256, 77


def index_of(face: Pixels) -> int:
    return int(face[0, 0, 0]) + 256 * int(face[0, 0, 1])


def build_raw(raw: Path, bad: bool) -> pd.DataFrame:
    """Single-coloured pictures in two archives, their splits mixed; picture i has attribute values of i's bits."""
    random = np.random.default_rng(0)
    splits = random.permutation([split for split, count in COUNTS.items() for _ in range(count)])
    raw.mkdir()
    rows = []
    with zipfile.ZipFile(raw / "a.zip", "w") as a, zipfile.ZipFile(raw / "b.zip", "w") as b:
        for i, split in enumerate(splits):
            archive, name = ("a.zip", a) if i % 3 else ("b.zip", b), f"pictures/{i:04d}.png"
            archive[1].writestr(zip_member(name), encoded(Image.new("RGB", (9, 8), colour(i))))
            rows.append((archive[0], name, str(split), 1 if i & 1 else -1, 1 if i & 2 else -1))
        if bad:
            good = encoded(drawn("RGB", 64, 64, 0))
            for i, split in enumerate(("train", "train", "test", "valid")):
                data = (b"nonsense", good[: len(good) // 2], encoded(drawn("RGB", 30, 4, 0)), None)[i]
                if data is not None:
                    a.writestr(zip_member(f"bad/{i}.png"), data)
                rows.insert(i * 150, ("a.zip", f"bad/{i}.png", split, 1, 1))
    table = pd.DataFrame(rows, columns=["archive", "file", "split", "Odd", "Two"])
    table = table.astype({"Odd": "int8", "Two": "int8"})
    write_index(raw, table, SOURCE)
    return table


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Packed]:
    """The same pictures, four of them bad, packed by one, two and five workers, which get them in other portions."""
    folder = tmp_path_factory.mktemp("images")
    build_raw(folder / "raw", bad=True)
    result = {}
    for workers in (1, 2, 5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packing, "_CHUNK", 128 // workers**2)
            result[workers] = pack(folder / "raw", folder / f"faces{workers}", 8, 3, 0.01, workers)
    return result


def test_the_bytes_do_not_depend_on_the_number_of_workers(packed: dict[int, Packed]) -> None:
    one = packed[1]
    names = sorted(path.name for path in one.faces.iterdir())
    assert names == ["faces.npy", "faces.parquet"]
    for more in (packed[2], packed[5]):
        assert names == sorted(path.name for path in more.faces.iterdir())
        for name in names:
            assert (one.faces / name).read_bytes() == (more.faces / name).read_bytes(), name
        assert one.card == more.card


def test_threads_give_the_bytes_of_processes(
    packed: dict[int, Packed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "_FORKS", False)
    threads = pack(packed[1].raw, tmp_path / "faces", 8, 3, 0.01)
    assert threads.card == packed[1].card
    for path in packed[1].faces.iterdir():
        assert (threads.faces / path.name).read_bytes() == path.read_bytes()


def test_each_row_of_the_table_is_the_face_at_its_place(packed: dict[int, Packed]) -> None:
    table = pd.read_parquet(packed[2].faces / "faces.parquet")
    assert list(table.columns) == ["file", "split", "Odd", "Two"]
    assert len(table) == sum(COUNTS.values())
    for split, count in COUNTS.items():
        faces, rows = images.open_faces(packed[2].faces, split), table[table["split"] == split]
        assert faces.dtype == np.uint8 and faces.shape == (count, 32, 32, 3)
        numbers = [index_of(face) for face in faces]
        assert rows["file"].tolist() == [f"pictures/{i:04d}.png" for i in numbers]
        assert numbers == sorted(numbers)  # the order of the index
        assert rows["Odd"].tolist() == [1 if i & 1 else -1 for i in numbers]
        assert rows["Two"].tolist() == [1 if i & 2 else -1 for i in numbers]
        assert all((face == colour(i)).all() for face, i in zip(faces, numbers, strict=True))


def test_the_report_counts_faces_and_lists_bad_pictures_with_reasons(packed: dict[int, Packed]) -> None:
    report = packed[1].card
    assert report["faces"] == COUNTS
    assert report["pixels"] == {"crop_size": 8, "image_size": 32, "nc": 3}
    reasons = {row["file"]: row["reason"] for row in report["bad"]}
    assert set(reasons) == {f"bad/{i}.png" for i in range(4)}
    assert "not a picture" in reasons["bad/0.png"]
    assert "truncated" in reasons["bad/1.png"]
    assert reasons["bad/2.png"] == "its 30x4 pixels are smaller than crop_size: 8"
    assert reasons["bad/3.png"] == "it is not in the archive"


def test_too_many_bad_pictures_end_in_one_sentence_and_leave_nothing(packed: dict[int, Packed], tmp_path: Path) -> None:
    total = sum(COUNTS.values()) + 4
    with pytest.raises(UserError, match=rf"max_bad_fraction: 4 of {total} .*bad/"), atomic(tmp_path / "faces") as faces:
        pack(packed[1].raw, faces, 8, 3, 3.9 / total)
    assert not list(tmp_path.iterdir())


def test_pictures_none_of_which_can_be_used_end_in_one_sentence(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        archive.writestr(zip_member("bad.png"), b"nonsense")
    write_index(raw, pd.DataFrame({"archive": ["a.zip"], "file": ["bad.png"], "split": ["train"]}), SOURCE)
    with pytest.raises(UserError, match=r"dataset: none of its 1 pictures can be used .*bad\.png"):
        pack(raw, tmp_path / "faces", None, 3, 1.0)


def test_as_many_bad_pictures_as_allowed_are_no_error(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        archive.writestr(zip_member("bad.png"), b"nonsense")
        archive.writestr(zip_member("good.png"), encoded(drawn("L", 9, 9, 0)))
    rows = [("a.zip", "bad.png", "train"), ("a.zip", "good.png", "train")]
    write_index(raw, pd.DataFrame(rows, columns=["archive", "file", "split"]), SOURCE)
    pack(raw, tmp_path / "faces", None, 1, 0.5)
    assert [len(images.open_faces(tmp_path / "faces", split)) for split in ("train", "valid", "test")] == [1, 0, 0]
    assert images.open_faces(tmp_path / "faces", "all").shape == (1, 32, 32, 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_damage_inside_an_archive_is_listed_like_any_bad_picture(tmp_path: Path, method: int) -> None:
    raw, data = tmp_path / "raw", encoded(drawn("RGB", 40, 40, 0), "BMP")
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w", method) as archive:
        for name in ("bad.bmp", "good.bmp"):
            archive.writestr(zip_member(name), data, method)
        start, length = 30 + len("bad.bmp"), archive.getinfo("bad.bmp").compress_size
    content = bytearray((raw / "a.zip").read_bytes())
    content[start : start + length // 2] = b"\xff" * (length // 2)  # to zlib an impossible block
    (raw / "a.zip").write_bytes(content)
    rows = [("a.zip", "bad.bmp", "train"), ("a.zip", "good.bmp", "train")]
    write_index(raw, pd.DataFrame(rows, columns=["archive", "file", "split"]), SOURCE)
    card = pack(raw, tmp_path / "faces", None, 3, 0.5).card
    assert len(images.open_faces(tmp_path / "faces", "train")) == 1
    assert [row["file"] for row in card["bad"]] == ["bad.bmp"] and "damaged in the archive" in card["bad"][0]["reason"]


def test_an_archive_that_is_none_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_index(raw, pd.DataFrame([("a.zip", "a.png", "train")], columns=["archive", "file", "split"]), SOURCE)
    for content in (None, b"none"):
        if content:
            (raw / "a.zip").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.zip: it is missing or not a zip file"):
            pack(raw, tmp_path / f"faces{content!r}", None, 3, 0.0)


def test_a_failed_crop_leaves_the_faces_before_it(tmp_path: Path) -> None:
    raw, faces = tmp_path / "raw", tmp_path / "faces"
    raw.mkdir()
    write_index(raw, pd.DataFrame({"archive": [], "file": [], "split": []}), SOURCE)
    faces.mkdir()
    (faces / "faces.npy").write_bytes(b"old")
    with pytest.raises(UserError, match="dataset: it holds no pictures"), atomic(faces) as temporary:
        pack(raw, temporary, None, 3, 0.0)
    assert (faces / "faces.npy").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "raw"]


@pytest.mark.skipif(sys.platform != "linux", reason="the workers are threads")
def test_a_killed_worker_ends_in_one_sentence_and_leaves_nothing(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = os.getpid()

    def killed(*arguments: object) -> None:
        assert os.getpid() != stage
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(packing, "square", killed)
    with pytest.raises(UserError, match=r"^worker process: it was killed"), atomic(tmp_path / "faces") as faces:
        packing.pack(raw, faces, None, 32, 3, 0.0)
    assert not multiprocessing.active_children() and not list(tmp_path.iterdir())


def test_an_error_in_a_worker_is_that_of_the_crop(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError) as caught, atomic(tmp_path / "faces") as faces:
        packing.pack(raw, faces, None, 32, 3, 0.0)
    assert about_disk(caught.value) == (
        f"{tmp_path / 'faces'}: No space left on device; free some space, then run the command again."
    )
    assert not multiprocessing.active_children() and not list(tmp_path.iterdir())


# A crop of which each picture prints a dot.
CROP = """
import os, sys
from pathlib import Path
from dcgan.data import packing
from dcgan.system.files import atomic
from pipeline.support.signals import exit_on_signals

def square(*arguments):
    os.write(1, b".")
    return cut(*arguments)

cut, packing.square = packing.square, square
exit_on_signals()
with atomic(Path("faces")) as faces:
    packing.pack(Path("raw"), faces, None, 32, 3, 0.0)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_workers_end_with_the_crop(tmp_path: Path, number: signal.Signals, status: int) -> None:
    raw, count = tmp_path / "raw", 100_000
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        archive.writestr(zip_member("a.png"), encoded(drawn("RGB", 90, 90, 0)))
    names = [f"{i}.png" for i in range(count)]
    table = pd.DataFrame({"archive": "a.zip", "file": names, "split": "train", "member": "a.png"})
    write_index(raw, table, SOURCE)
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", CROP]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.read(1)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        dots, said = process.communicate(timeout=100)  # until the last process has closed its end of the pipes
    assert process.returncode == status and not said, said
    assert len(dots) < count / 2
    if number == signal.SIGINT:
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_packed_avatars_are_faces_to_the_byte(raw: Path, faces: Path) -> None:
    """Faces made in batches are those made one by one."""
    table = pd.read_parquet(faces / "faces.parquet")
    train = images.open_faces(faces, "train")
    with zipfile.ZipFile(raw / "img_align_celeba.zip") as archive:
        for i in (0, 1, 100, 191):
            face = decoding.face(archive.read(table["file"][i]), None, 64, 3)
            assert np.array_equal(train[np.array([i])][0], face)


def test_splits_are_mapped_into_memory_and_all_is_the_three_in_order(faces: Path) -> None:
    splits = [images.open_faces(faces, split) for split in ("train", "valid", "test")]
    assert [len(split) for split in splits] == [192, 24, 24]
    together = images.open_faces(faces, "all")
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in (*splits, together))
    assert np.array_equal(together, np.concatenate(splits))
