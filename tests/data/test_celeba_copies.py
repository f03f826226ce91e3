"""CelebA from whatever copy is there: the same faces from each, and every fault a sentence or counted."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from celeba_copies import COPIES, CSV, linked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_files import contents, encoded, stand_in

from dcgan.data import card as data_card
from dcgan.data import packing
from dcgan.data.celeba_lists import read_attributes, read_partition
from dcgan.data.fetching import File, Patience
from dcgan.data.index import read_index
from dcgan.data.sources import celeba
from dcgan.system.errors import UserError

PICTURES = 12
HASTY = Patience(timeout=0.3, pause=lambda seconds: None)
ATTRIBUTES, PARTITION = CSV[celeba.ATTRIBUTES], CSV[celeba.PARTITION]
INNER = Path("img_align_celeba/img_align_celeba")


class Published(NamedTuple):
    """Files as CelebA's authors publish them, copies of them, and the faces that they give."""

    root: Path
    files: list[File]
    faces: dict[str, bytes]  # all of them
    few: dict[str, bytes]  # with dataset_size: 5

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"


Taken = tuple[dict[str, bytes], dict[str, Any]]  # the files in data/faces, and the data card


def cropped(raw: Path, max_bad_fraction: float = 0.1) -> Taken:
    faces = raw.with_name(f"{raw.name} faces")
    found = packing.pack(raw, faces, None, 32, 3, max_bad_fraction)
    return contents(faces), data_card.describe(raw, faces, found, {})


def taken(known: Published, folder: Path, raw: Path, limit: int | None = None) -> Taken:
    """The faces of a linked folder, and the data card; nothing is written into the folder."""
    link = linked(folder)
    celeba.prepare_copy(link, known.downloads, raw, limit, known.files, HASTY)
    result = cropped(raw)
    assert linked(folder).files.equals(link.files)
    return result


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("celeba")
    files = stand_in(root / "downloads", PICTURES)
    for name, limit in (("all", None), ("few", 5)):
        celeba.prepare(root / "downloads", root / name, limit, files)
    for name, make in COPIES.items():
        make(root / "downloads", root / name)
    return Published(root, files, cropped(root / "all")[0], cropped(root / "few")[0])


@pytest.fixture
def copy(known: Published, tmp_path: Path) -> Path:
    """Kaggle's copy, to be damaged."""
    return shutil.copytree(known.root / "kaggle", tmp_path / "copy")


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_gives_the_same_faces(known: Published, tmp_path: Path, kind: str) -> None:
    faces, card = taken(known, known.root / kind, tmp_path / "raw")
    assert faces == known.faces
    assert taken(known, known.root / kind, tmp_path / "few", 5)[0] == known.few
    said = card["source"]["verified"]
    assert said.startswith("the published archive" if kind == "published" else "not the published archive")
    assert ("are the published ones" in said) == (kind != "kaggle")
    assert f"{PICTURES} of 202,599 pictures" in said and "every picture of the lists was found" in said
    digest = hashlib.sha256()
    with zipfile.ZipFile(known.downloads / celeba.ARCHIVE) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg")):
            digest.update(f"{Path(name).name} {hashlib.sha256(archive.read(name)).hexdigest()}\n".encode())
    assert digest.hexdigest() in said and digest.hexdigest() in read_index(known.root / "all")[1].verified


def test_a_list_that_a_copy_lacks_is_the_published_one(known: Published, copy: Path, tmp_path: Path) -> None:
    for name in (ATTRIBUTES, PARTITION):
        (copy / name).unlink()
    faces, card = taken(known, copy, tmp_path / "raw")
    assert faces == known.faces and "are the published ones" in card["source"]["verified"]


# Faults: what they do to a copy, and then an error's words, or the number of pictures that are not used and the words
# of the card.

Fault = Callable[[Path], object]


def edited(name: str, edit: Callable[[str], str]) -> Fault:
    return lambda copy: (copy / name).write_bytes(edit((copy / name).read_text()).encode())


def replaced(name: str, old: str, new: str) -> Fault:
    return edited(name, lambda text: text.replace(old, new, 1))


def written(name: str, data: bytes) -> Fault:
    def write(copy: Path) -> None:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)

    return write


def only(name: str, data: bytes) -> Fault:
    """Instead of the pictures there is one file."""

    def replace(copy: Path) -> None:
        shutil.rmtree(copy / "img_align_celeba")
        written(name, data)(copy)

    return replace


def without(*numbers: int) -> Fault:
    def remove(copy: Path) -> None:
        for number in numbers:
            (copy / INNER / f"{number:06d}.jpg").unlink()

    return remove


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def others(size: tuple[int, int]) -> dict[str, bytes]:
    """Another data set's pictures of the same names."""
    return {f"JPEGImages/{i:06d}.jpg": encoded("JPEG", i, size) for i in range(1, 4)}


def in_the_wild(copy: Path) -> None:
    for name, data in others((90, 50)).items():
        written(name.replace("JPEGImages", "img_celeba"), data)(copy)


def again(copy: Path, change: bytes = b"") -> None:
    data = (copy / INNER / "000003.jpg").read_bytes()
    written("selected/000003.jpg", data + change)(copy)


WILD = encoded("JPEG", 1, (90, 50))
PAGE = b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>"
ROW = "000003.jpg,1,-1,-1\n"
SENTENCES: dict[str, tuple[Fault, str]] = {
    "a list without rows": (edited(ATTRIBUTES, lambda text: text.splitlines()[0]), "attr_celeba.csv: .*it has no rows"),
    "an empty list": (written(PARTITION, b""), r"list_eval_partition\.csv: .*it has no rows"),
    "a page as a list": (written(PARTITION, PAGE), r"it is not a valid CelebA list \(it is a web page titled"),
    "a page as the zip": (only(celeba.ARCHIVE, PAGE), "img_align_celeba.zip cannot be read: it is a web page titled"),
    "a damaged zip": (only("a.zip", zipped({"000001.jpg": b""})[:-9]), "a.zip cannot be read: it is not a valid zip"),
    "half the folder": (without(*range(1, 7)), "max_bad_fraction: 6 of 12 pictures .*000001.jpg: it is not in "),
    "half a list": (edited(ATTRIBUTES, lambda text: text[: len(text) // 2]), "max_bad_fraction: . of 12"),
    "pictures in the wild as 7z": (only("img_celeba.7z.001", b"7z"), "holds the pictures in the wild"),
    "pictures in the wild": (only("img_celeba/000001.jpg", WILD), "has 90x50 pixels, not 178x218"),
    "a tar": (only("img_align_celeba.tar.gz", b"x"), "celeba.tar.gz is an archive that is not read; unpack"),
    "a zip in a zip": (only("a.zip", zipped({"b.zip": b""})), "a.zip: b.zip is an archive that is not read; unpack it"),
    "another's zip": (only("voc.zip", zipped(others((90, 50)))), "voc.zip/JPEGImages/000001.jpg has 90x50 pixels"),
    "a zip of others": (only("a.zip", zipped({"b/cat.jpg": b"x"})), "it holds no pictures named as CelebA's"),
    "attributes of 0 and 1": (edited(ATTRIBUTES, lambda text: text.replace("-1", "0")), "the value '0', not 1 or -1"),
    "a header that is short": (replaced(ATTRIBUTES, ",Young", ""), "line 2 has 3 values, not 2"),
    "no header": (edited(ATTRIBUTES, lambda text: text.partition("\n")[2]), "no header names the attributes"),
    "an attribute twice": (replaced(ATTRIBUTES, "Young", "Smiling"), "column name 'Smiling' .* not unique"),
    "the wrong list": (edited(PARTITION, lambda text: "image_id,a,b\n000001.jpg,1,1\n"), "its header names 2 columns"),
    "UTF-16": (edited(PARTITION, lambda text: "\0".join(text)), "it is not UTF-8 text"),
    "two lists that differ": (written("b/list_eval_partition.txt", b"000001.jpg 1\n"), "differ; remove one of them"),
}  # fmt: skip
COUNTED: dict[str, tuple[Fault, int, str]] = {
    "a picture missing": (without(3), 1, "1 pictures of the lists cannot be used: it is not in "),
    "a picture twice": (again, 0, "1 pictures are there twice or more (the first: 000003.jpg)"),
    "two of a name": (lambda copy: again(copy, b" "), 1, "files of this name differ: "),
    "a picture renamed": (
        lambda copy: (copy / INNER / "000003.jpg").rename(copy / INNER / "000003 (1).jpg"),
        1,
        f"1 pictures are in no list (the first: {INNER}/000003 (1).jpg)",
    ),
    "a picture in capitals": (
        lambda copy: (copy / INNER / "000003.jpg").rename(copy / INNER / "000003.JPEG"), 0, "was found",
    ),
    "a BOM": (edited(ATTRIBUTES, lambda text: "\ufeff" + text), 0, "every picture of the lists was found"),
    "CRLF": (edited(PARTITION, lambda text: text.replace("\n", "\r\n")), 0, "every picture of the lists was found"),
    "semicolons": (edited(ATTRIBUTES, lambda text: text.replace(",", "; ")), 0, "every picture of the lists was found"),
    "quotes": (edited(ATTRIBUTES, lambda text: text.replace("-1", '"-1"')), 0, "every picture of the lists was found"),
    "partition 3": (replaced(PARTITION, "000003.jpg,2", "000003.jpg,3"), 1, "has the value '3', not 0 or 1 or 2"),
    "attribute 0": (replaced(ATTRIBUTES, ROW, "000003.jpg,0,-1,-1\n"), 1, "line 4 has the value '0', not 1 or -1"),
    "attribute 2": (replaced(ATTRIBUTES, ROW, "000003.jpg,2,-1,-1\n"), 1, "line 4 has the value '2', not 1 or -1"),
    "a word": (replaced(ATTRIBUTES, ROW, "000003.jpg,yes,-1,-1\n"), 1, "line 4 has the value 'yes', not 1 or -1"),
    "a row that is short": (replaced(ATTRIBUTES, ROW, "000003.jpg,1,-1\n"), 1, "line 4 has 2 values, not 3"),
    "a row twice": (replaced(ATTRIBUTES, ROW, ROW * 2), 0, f"{ATTRIBUTES}: 1 rows that repeat another one"),
    "rows that differ": (replaced(PARTITION, "000003.jpg,2", "000003.jpg,2\n000003.jpg,1"), 1, "rows that differ"),
    "a row without a name": (replaced(ATTRIBUTES, ROW, "x" + ROW), 1, "1 rows without the name of a picture"),
    "a row too many": (replaced(PARTITION, "000003.jpg,2", "000003.jpg,2\n000099.jpg,0"), 1, "cannot be used: it"),
    "pictures in the wild beside them": (in_the_wild, 0, "3 pictures in img_celeba are not used: "),
    "notebooks and a Mac": (written(".ipynb_checkpoints/000003.jpg", b"x"), 0, "every picture of the lists was found"),
    "an official list too": (
        lambda copy: shutil.copy(copy.parent / "downloads" / celeba.PARTITION, copy / "again.txt"), 0, "was found",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_a_fault_is_a_sentence(known: Published, copy: Path, tmp_path: Path, name: str) -> None:
    fault, words = SENTENCES[name]
    fault(copy)
    with pytest.raises(UserError, match=words) as error:
        taken(known, copy, tmp_path / "raw")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", COUNTED)
def test_a_fault_is_counted(known: Published, copy: Path, tmp_path: Path, name: str) -> None:
    fault, bad, words = COUNTED[name]
    shutil.copytree(known.downloads, tmp_path / "downloads")
    fault(copy)
    faces, card = taken(known, copy, tmp_path / "raw")
    assert len(card["bad"]) == bad and sum(card["faces"].values()) == PICTURES - bad + (name == "a row too many")
    assert words in card["source"]["verified"]
    assert (faces == known.faces) == (bad == 0 or name == "a row too many")


def test_a_list_that_changed_after_the_link_is_named(known: Published, copy: Path, tmp_path: Path) -> None:
    link = linked(copy)
    replaced(PARTITION, "000003.jpg,2", "000003.jpg,1")(copy)
    with pytest.raises(UserError, match=rf"{PARTITION}: it has changed since .*`dcgan data link`"):
        celeba.prepare_copy(link, known.downloads, tmp_path / "raw", None, known.files, HASTY)


@pytest.mark.parametrize("kind", ["kaggle", "zipped"])
@pytest.mark.parametrize("gone", [False, True])
def test_pictures_that_changed_after_the_link_are_named(
    known: Published, tmp_path: Path, kind: str, gone: bool
) -> None:
    copy = shutil.copytree(known.root / kind, tmp_path / "copy")
    changed = copy / INNER / "000003.jpg" if kind == "kaggle" else copy / "my celeba.zip"
    link = linked(copy)
    before = changed.stat()
    celeba.prepare_copy(link, known.downloads, tmp_path / "raw", None, known.files, HASTY)
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    if gone:
        changed.unlink()
    with pytest.raises(UserError, match=re.escape(str(changed))):
        cropped(tmp_path / "raw")


# What is in data/downloads and is not what the authors publish.


def moved_to(name: str) -> Fault:
    return lambda downloads: (downloads / celeba.ARCHIVE).rename(downloads / name)


def unpacked_there(downloads: Path) -> None:
    with zipfile.ZipFile(downloads / celeba.ARCHIVE) as archive:
        archive.extractall(downloads)
    (downloads / celeba.ARCHIVE).unlink()


def kaggle_there(downloads: Path) -> None:
    (downloads / celeba.ARCHIVE).unlink()
    shutil.copytree(downloads.parent / "kaggle", downloads / "archive")


def zip_of_theirs(downloads: Path) -> None:
    (downloads / celeba.ARCHIVE).write_bytes(zipped({"000001.jpg": b"x"}))


@pytest.mark.parametrize(
    ("fault", "what", "folder"),
    [
        (moved_to("archive.zip"), "archive.zip: it looks like a copy", "downloads"),
        (unpacked_there, "img_align_celeba: it looks like a copy", "downloads"),
        (kaggle_there, "archive: it looks like a copy", "downloads/archive"),
        (zip_of_theirs, "img_align_celeba.zip: it is not the published file", "downloads"),
        (moved_to("img_celeba.7z.001"), "img_celeba.7z.001: it is one of CelebA's 7z archives", ""),
    ],
)
def test_a_copy_among_the_downloads_is_named_with_the_command_that_takes_it(
    known: Published, tmp_path: Path, fault: Fault, what: str, folder: str
) -> None:
    for name in ("downloads", "kaggle"):
        shutil.copytree(known.root / name, tmp_path / name)
    fault(tmp_path / "downloads")
    with pytest.raises(UserError) as error:
        celeba.prepare(tmp_path / "downloads", tmp_path / "raw", None, known.files, HASTY)
    assert what in str(error.value) and len(str(error.value).splitlines()) == 1
    if not folder:
        return
    assert "dcgan data link" in str(error.value) and str(tmp_path / folder) in str(error.value)
    link = linked(tmp_path / folder)
    if fault is not zip_of_theirs:
        celeba.prepare_copy(link, tmp_path / "downloads", tmp_path / "raw", None, known.files, HASTY)
        assert cropped(tmp_path / "raw")[0] == known.faces
        assert linked(tmp_path / folder).files.equals(link.files)


# Damaged at random.

examples = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
TXT = b"3\nSmiling Young \n" + b"".join(b"%06d.jpg -1  1\n" % i for i in range(1, 4))
LISTS = [TXT, TXT[2:].replace(b"Smiling", b"image_id,Smiling").replace(b" \n", b"\n").replace(b"  ", b",")]


PIECES = st.one_of(st.binary(max_size=4), st.sampled_from([b"", b"\n", b",", b"-1", b"\0", *LISTS]))


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        begin, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        data = data[:begin] + draw(PIECES) + data[begin + gone :]
    return data


@examples
@given(st.sampled_from([*LISTS, b"000001.jpg 0\n000002.jpg 1\n"]).flatmap(damaged))
def test_a_damaged_list_says_what_it_says_or_is_a_sentence(data: bytes) -> None:
    """Each row that is used stands in the file."""
    lines = data.decode(errors="ignore").replace('"', "").replace(",", " ").lower().splitlines()
    rows = [line.split() for line in lines]
    for read in (read_attributes, read_partition):
        try:
            listed = read(data, "list.txt")
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            continue
        for name, values in zip(listed.values.index, listed.values.to_numpy().tolist(), strict=True):
            assert [name, *map(str, values)] in rows


@pytest.mark.long
@settings(examples, max_examples=80)
@given(st.sampled_from(["zipped", "published"]), st.booleans(), st.floats(0, 1), st.integers(0, 40), PIECES)
def test_a_damaged_zip_gives_right_faces_or_none(
    known: Published, tmp_path_factory: pytest.TempPathFactory, kind: str, end: bool, at: float, gone: int, piece: bytes
) -> None:
    folder = shutil.copytree(known.root / kind, tmp_path_factory.mktemp("damaged") / "copy")
    (path,) = folder.glob("*.zip")
    content = path.read_bytes()
    most = 4_000 if end else len(content)  # the directory is at the end
    begin = len(content) - int(at * most)
    path.write_bytes(content[:begin] + piece + content[begin + gone :])
    raw = folder.with_name("raw")
    try:
        celeba.prepare_copy(linked(folder), known.downloads, raw, None, known.files, HASTY)
        cropped(raw, 1.0)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return
    rows = {name: (face.tobytes(), *row) for name, face, row in faces_of(raw.with_name("raw faces"))}
    right = {name: (face.tobytes(), *row) for name, face, row in faces_of(known.root / "all faces")}
    assert all(right[name] == found for name, found in rows.items())


def faces_of(faces: Path) -> Iterator[tuple[str, Any, list[object]]]:
    table = pd.read_parquet(faces / "faces.parquet")
    for face, row in zip(np.load(faces / "faces.npy"), table.to_numpy().tolist(), strict=True):
        yield row[0], face, row[1:]
