"""Members of a zip, read at their positions: what `zipfile` reads, or a reason."""

from __future__ import annotations

import concurrent.futures
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcgan.data import archives
from dcgan.data.archives import Archive

CONTENT = b"some content, some content, some content" * 20
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
START = 30 + len("a.jpg")  # of the first member's data


def written(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as opened:
        opened.writestr("a.jpg", CONTENT)
        opened.writestr("b.jpg", b"")
    return path


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.binary(), max_size=9
    ),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.booleans(),
)
def test_it_reads_what_zipfile_reads(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], method: int, large: bool
) -> None:
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, content in contents.items():
            with opened.open(name, "w", force_zip64=large) as member:
                member.write(content)
    archive = Archive(path)
    with zipfile.ZipFile(path) as opened:
        for name in opened.namelist():
            assert archive.read(name) == opened.read(name)


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"#!/bin/sh\n" + written(tmp_path / "b.zip").read_bytes())
    assert Archive(path).read("a.jpg") == CONTENT


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    contents = {f"{i}.bin": bytes([i]) * (1000 + i) for i in range(200)}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in contents.items():
            opened.writestr(name, content)
    archive = Archive(tmp_path / "a.zip")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(archive.read, contents)) == list(contents.values())


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it is not in the archive"):
        Archive(written(tmp_path / "a.zip")).read("c.jpg")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("at", [0, START, START + 9])
def test_damage_is_named(tmp_path: Path, method: int, at: int) -> None:
    path = written(tmp_path / "a.zip", method)
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged in the archive"):
        Archive(path).read("a.jpg")
    assert Archive(path).read("b.jpg") == b""


def test_what_holds_more_than_it_says_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.jpg", bytes(10_000_000))
    content = path.read_bytes()
    path.write_bytes(content.replace((10_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="wrong length"):
        Archive(path).read("a.jpg")


def test_what_lies_behind_the_end_is_named(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "a.zip").read_bytes())
    directory = content.index(b"PK\1\2")
    content[directory + 20 : directory + 24] = (2**31).to_bytes(4, "little")  # its compressed size
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="it extends past the end"):
        Archive(tmp_path / "a.zip").read("a.jpg")


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", len(CONTENT) - 1)
    with pytest.raises(ValueError, match="800 bytes are too many"):
        Archive(written(tmp_path / "a.zip")).read("a.jpg")


def test_rare_methods_and_secrets_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a method other than deflate"):
        Archive(written(tmp_path / "a.zip", zipfile.ZIP_BZIP2)).read("a.jpg")
    out = io.BytesIO(written(tmp_path / "b.zip").read_bytes())
    content = bytearray(out.getvalue())
    directory = content.index(b"PK\1\2")
    content[directory + 8] |= 1  # the flag of an encrypted member
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        Archive(tmp_path / "b.zip").read("a.jpg")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"not a zip")
    with pytest.raises(zipfile.BadZipFile):
        Archive(tmp_path / "a.zip")
