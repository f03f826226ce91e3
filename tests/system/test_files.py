"""Files are complete or absent, and an error says of which file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dcgan.system.files import atomic, together, write_json


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_fails_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
            temporary = temporary / "inside"
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_says_which_file_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, atomic(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write says it, without a name
    assert caught.value.filename == str(tmp_path / "out")


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic(tmp_path / "out"):
        (tmp_path / "absent").read_text()
    assert caught.value.filename == str(tmp_path / "absent")


def test_all_appear_together_or_none(tmp_path: Path) -> None:
    file, folder = tmp_path / "file.json", tmp_path / "sub" / "folder"
    with together() as new:
        write_json(new(file), 1)
        new(folder).mkdir()
        (new(folder) / "inside").touch()
        assert new(file) == new(file) and not file.exists() and not folder.exists()
    assert file.read_text() == "1\n" and (folder / "inside").exists()
    with pytest.raises(RuntimeError), together() as new:
        write_json(new(file), 2)
        new(folder).mkdir()
        raise RuntimeError
    assert file.read_text() == "1\n" and (folder / "inside").exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.json", "folder", "inside", "sub"]


def test_a_full_disk_says_which_of_them_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, together() as new:
        new(tmp_path / "first").touch()
        with atomic(new(tmp_path / "second")):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "second") and not list(tmp_path.iterdir())
