"""Files are complete or absent, and an error says of which file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dcgan.system.files import atomic


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
