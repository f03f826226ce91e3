"""A folder outside of the project: every file in it is a face or counted, and what changes in it is named."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import drawn, encoded

from dcgan.data import card as data_card
from dcgan.data import inventory, links, packing
from dcgan.data.index import Source, read_index, read_left_out, split_by_name, write_index
from dcgan.data.loose_files import LooseFiles
from dcgan.data.sources import folder
from dcgan.system.errors import UserError
from dcgan.system.project_files import LINK, LINKS

FORMS = "JPEG PNG GIF WebP BMP TIFF AVIF JPEG2000 PPM".split()
# What Pillow does not write: HEIC as phones have it, TIFF with its bytes the other way round, a layered picture.
BEGINNINGS = b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypmif1", b"MM\0*\0\0\0\x08", b"\xff\x4f\xff\x51"
NO_PICTURES = (
    *(b"BMW and Audi", b"P5 was a lecture", b"RIFF0000AVI ", b"GIF", b"<svg/>"),
    *(b"\0\0\0\x18ftypmp42", b"II*\0\x10\0\0\0CR\2"),  # a film, a camera's raw picture
)


def picture(number: int, form: str = "PNG", side: int = 40) -> bytes:
    return encoded(drawn("RGB", side, side, number), form)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "data").mkdir(parents=True)
    return tmp_path / "project"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of 30 pictures."""
    for i in range(30):
        path = tmp_path / "own" / f"{i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
    return tmp_path / "own"


def state(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, modification time and bytes of all in a folder."""
    return {
        str(path): (about.st_mode, about.st_mtime_ns, path.read_bytes() if stat.S_ISREG(about.st_mode) else b"")
        for path in root.rglob("*")
        for about in [path.lstat()]
    }


def put(root: Path, name: bytes, data: bytes) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(root), name)))  # noqa: PTH118
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def cropped(project: Path, limit: int | None = None, refuse_enlarged: bool = False) -> dict[str, object]:
    """The data card of the linked folder's faces, 32 pixels a side."""
    linked = links.look_over(project, project)
    assert linked
    links.write_list(project / "list.parquet", linked)
    written = links.read_list(project / "list.parquet")
    assert written and written.folder == linked.folder
    folder.prepare_linked(written, project / "raw", limit)
    found = packing.pack(project / "raw", project / "faces", None, 32, 3, 1.0, refuse_enlarged=refuse_enlarged)
    return data_card.describe(project / "raw", project / "faces", found, {"refuse_enlarged": refuse_enlarged})


def test_every_file_is_a_face_or_counted_with_its_reason(project: Path, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    names = [b"a.jfif", b"b.jpe", b"c", b"d.txt", b"deep/e.PNG", b"\xc4\xe3\xba\xc3.jpg", b"\xc4/f.png", "ü ☺".encode()]
    for i, name in enumerate(names):
        put(root, name, picture(i))
    put(elsewhere, b"g.png", picture(20))
    for name in (b".hidden.png", b".ipynb_checkpoints/a.png", b"__MACOSX/._a.jpg", b"Thumbs.db", b"deep/.git/b/c"):
        put(root, name, picture(30))
    for name in (b"video.mp4", b"notes.txt", b"no ending", b"empty"):
        put(root, name, b"x" if name != b"empty" else b"")
    for name in (b"page.jpg", b"empty.png", b"half.png"):
        put(root, name, {b"page.jpg": b"<html>", b"empty.png": b"", b"half.png": picture(31)[:300]}[name])
    (root / "linked").symlink_to(elsewhere)
    (root / "deep" / "a file.png").symlink_to(elsewhere / "g.png")
    for at, target in ((root / "loop", "."), (root / "deep" / "up", ".."), (elsewhere / "back", root)):
        at.symlink_to(target)
    (root / "itself").symlink_to("itself")
    (root / "broken.jpg").symlink_to("nowhere")
    os.mkfifo(root / "pipe.jpg")
    before = state(tmp_path / "own"), state(elsewhere)

    linked = links.link(project, root)
    card = cropped(project)

    assert (state(tmp_path / "own"), state(elsewhere)) == before
    table = pd.read_parquet(project / "faces" / "faces.parquet")
    assert set(table["file"]) == {
        "a.jfif", "b.jpe", "c", "d.txt", "deep/e.PNG", r"\xc4\xe3\xba\xc3.jpg", r"\xc4/f.png", "ü ☺", "linked/g.png",
        "deep/a file.png",
    }  # fmt: skip
    assert table["split"].tolist() == split_by_name(table["file"].tolist())
    assert list(table.columns) == ["file", "split"]
    reasons = {row["file"]: row["reason"] for row in card["bad"]}  # type: ignore[attr-defined]
    assert set(reasons) == {"page.jpg", "empty.png", "half.png", "broken.jpg", "pipe.jpg"}
    passed = {(kind["reason"], kind["ending"]): kind["files"] for kind in card["passed_over"]}  # type: ignore[attr-defined]
    assert len(table) + len(reasons) + sum(passed.values()) == len(linked.files)
    assert sum(files for (reason, _), files in passed.items() if reason == inventory.HIDDEN) == 5
    assert passed[inventory.NOT_A_PICTURE, ".mp4"] == passed[inventory.EMPTY, ""] == 1
    line = data_card.left_out(card)
    assert "passed over: " in line and ".mp4 1" in line and "not used: 5" in line and "dataset_size" not in line


@pytest.mark.parametrize("form", [*FORMS, *BEGINNINGS], ids=str)
def test_a_picture_is_known_by_its_first_bytes(tmp_path: Path, form: str | bytes) -> None:
    (tmp_path / "x").write_bytes(picture(1, form) if isinstance(form, str) else form + bytes(40))
    assert inventory.take_in(tmp_path)["problem"].tolist() == [""]


@pytest.mark.parametrize("begin", NO_PICTURES, ids=str)
def test_what_only_begins_like_a_picture_is_none(tmp_path: Path, begin: bytes) -> None:
    (tmp_path / "x").write_bytes(begin + b" and more of the text")
    assert inventory.take_in(tmp_path)["problem"].tolist() == [inventory.NOT_A_PICTURE]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=30).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")))
def test_a_file_of_any_name_is_read(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    root = tmp_path_factory.mktemp("names")
    put(root, b"x" + name, b"some bytes")
    put(root, b"y", b"others")
    first, second = inventory.look(root)["file"]
    assert second == "y" and first.encode()
    assert LooseFiles(root, {first: hashlib.sha256(b"some bytes").hexdigest()}).read(first) == b"some bytes"


def test_touched_files_change_nothing_and_are_read_once(
    project: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    links.link(project, own)
    before = (project / LINK).read_bytes()
    assert json.loads(before) | {"sha256": ""} == {"folder": str(own), "pictures": 30, "files": 30, "sha256": ""}
    for path in (own / "0").iterdir():
        os.utime(path, ns=(0, 0))
    capsys.readouterr()
    links.look_over(project, project)
    assert "10 of 10 files" in capsys.readouterr().err
    links.look_over(project, project)
    links.link(project, None)
    assert "files," not in capsys.readouterr().err and (project / LINK).read_bytes() == before


def rewritten(path: Path) -> None:
    """The same size, another content."""
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


CHANGES: dict[str, Callable[[Path], object]] = {
    "1 file modified: 1/1.png": lambda own: rewritten(own / "1" / "1.png"),
    "1 file removed: 1/1.png": lambda own: (own / "1" / "1.png").unlink(),
    "1 file added: 1/x.png": lambda own: (own / "1" / "x.png").write_bytes(picture(99)),
    "10 files removed: 1/1.png, 1/10.png, 1/13.png, ...; 10 files added: 3/1.png, 3/10.png, 3/13.png, ...": (
        lambda own: (own / "1").rename(own / "3")
    ),
    "1 file added: notes": lambda own: (own / "notes").write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_named_until_it_is_taken_in(project: Path, own: Path, change: str) -> None:
    links.link(project, own)
    before = (project / LINK).read_bytes()
    (own / ".a hidden file").write_text("changes nothing")
    links.look_over(project, project)
    CHANGES[change](own)
    with pytest.raises(UserError, match=rf"own: the folder has changed since it was linked \({change}\); .*`dcgan"):
        links.look_over(project, project)
    links.link(project, None)
    assert (project / LINK).read_bytes() != before
    links.look_over(project, project)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (rewritten, "it has changed"),
        (Path.unlink, "it has been removed"),
        (lambda own: (own.unlink(), own.mkdir()), "it has become unreadable"),
    ],
)
def test_the_crop_stops_at_a_file_that_is_another(
    project: Path, own: Path, change: Callable[[Path], object], how: str
) -> None:
    links.link(project, own)
    cropped(project)
    change(own / "2" / "2.png")
    with pytest.raises(UserError, match=rf"2/2\.png: .*{how}.* since the folder was linked; run `dcgan data link`"):
        packing.pack(project / "raw", project / "again", None, 32, 3, 1.0)
    own.rename(own.with_name("away"))
    with pytest.raises(UserError, match=r"own: there is no such folder"):
        packing.pack(project / "raw", project / "third", None, 32, 3, 1.0)


def test_pictures_in_an_archive_of_the_linked_folder_are_verified_too(tmp_path: Path) -> None:
    root, raw = tmp_path / "own", tmp_path / "raw"
    (root / "deep").mkdir(parents=True)
    (root / "loose.png").write_bytes(picture(1))
    with zipfile.ZipFile(root / "deep" / "some.zip", "w") as archive:
        archive.writestr("a.png", picture(2))
    hashes = inventory.take_in(root).set_index("file")["sha256"]
    rows = [("", "loose.png", "train"), ("deep/some.zip", "a.png", "test")]
    raw.mkdir()
    pictures = pd.DataFrame(rows, columns=["archive", "file", "split"])
    pictures["sha256"] = hashes[["loose.png", "deep/some.zip"]].tolist()
    write_index(raw, pictures, Source("own", "free", "", "", str(root)))
    assert {"a.png", "loose.png"} == set(read_index(raw)[0]["file"])
    found = packing.pack(raw, tmp_path / "faces", None, 32, 3, 0.0)
    assert [len(found[split].digests) for split in ("train", "test")] == [1, 1]
    with zipfile.ZipFile(root / "deep" / "some.zip", "a") as archive:
        archive.writestr("b.png", picture(3))
    with pytest.raises(UserError, match=r"some\.zip: it has changed or gone since .*`dcgan data link`"):
        packing.pack(raw, tmp_path / "again", None, 32, 3, 0.0)


def test_what_dataset_size_leaves_out_and_what_is_enlarged_is_said(project: Path, own: Path) -> None:
    for i in range(4):
        (own / f"small {i}.png").write_bytes(picture(50 + i, side=20))
    links.link(project, own)
    card = cropped(project, limit=33)
    assert card["dataset_size"] == {"taken": 33, "of": 34}
    assert read_left_out(project / "raw").found == 34
    enlarged = int(str(card["enlarged"]))
    assert 3 <= enlarged <= 4
    line = data_card.left_out(card)
    assert line == f"dataset_size: 33 of 34 pictures taken; smaller than image_size: {enlarged} (enlarged)"


def test_small_pictures_are_refused_when_asked(project: Path, own: Path) -> None:
    (own / "small.png").write_bytes(picture(50, side=20))
    links.link(project, own)
    card = cropped(project, refuse_enlarged=True)
    assert card["bad"] == [
        {
            "file": "small.png",
            "reason": "its square has 20 pixels a side, fewer than image_size, and refuse_enlarged is true",
        }
    ]
    assert sum(card["faces"].values()) == 30 and "refused" in data_card.left_out(card)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="refuse_enlarged: no picture is left"):
        packing.pack(project / "raw", project / "none", None, 64, 3, 0.0, refuse_enlarged=True)


def test_a_mistake_is_named_and_changes_nothing(project: Path, own: Path) -> None:
    with pytest.raises(UserError, match="no folder is linked; link one"):
        links.link(project, None)
    links.link(project, own)
    before = (project / LINK).read_bytes()
    (own.parent / "no pictures").mkdir()
    (own.parent / "no pictures" / "a.txt").write_text("x")
    mistakes = {
        own.parent / "nothing": "there is no such folder",
        own / "0" / "0.png": "it is not a folder",
        own.parent / "no pictures": "none of its 1 files is a picture",
        project / "data": "it is inside this project, or contains it",
        project.parent: "it is inside this project, or contains it",
    }
    for path, sentence in mistakes.items():
        with pytest.raises(UserError, match=sentence):
            links.link(project, path)
    assert (project / LINK).read_bytes() == before
    own.rename(own.with_name("away"))
    with pytest.raises(UserError, match="there is no such folder"):
        links.link(project, None)
    (project / LINK).write_text("<<<<<<<")
    with pytest.raises(UserError, match=r"data/link\.json: it cannot be read"):
        links.look_over(project, project)
    links.unlink(project)
    assert links.look_over(project, project) is None


def test_a_list_that_is_missing_is_written_again_if_the_folder_is_as_it_was(project: Path, own: Path) -> None:
    known = links.link(project, own).files
    (inventory,) = (project / LINKS).iterdir()
    inventory.unlink()
    linked = links.look_over(project, project)
    assert linked and linked.files.equals(known) and inventory.is_file()
    inventory.unlink()
    rewritten(own / "1" / "1.png")
    with pytest.raises(UserError, match=r"own: the folder has changed since it was linked \(which files is not known"):
        links.look_over(project, project)
    assert not inventory.exists()


def test_a_folder_among_the_downloads_can_be_linked(project: Path, own: Path) -> None:
    inside = project / "data" / "downloads" / "archive"
    inside.parent.mkdir(parents=True)
    own.rename(inside)
    assert links.link(project, inside).folder == inside and links.look_over(project, project)


def test_a_link_in_place_of_the_projects_own_folder_is_named(project: Path, own: Path) -> None:
    links.check_own_folder(project)
    (project / "data" / "folder").symlink_to(own)
    with pytest.raises(UserError, match=f"data/folder: it is a symbolic link to {own}.* dcgan data link {own}`"):
        links.check_own_folder(project)
