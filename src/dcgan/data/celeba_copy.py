"""Finds a copy of CelebA in a folder: its pictures, loose or in zip files, at any depth, and the lists beside them."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import simplejpeg

from dcgan.data.archives import Archive
from dcgan.data.celeba_lists import NAME
from dcgan.data.fetching import web_page
from dcgan.data.file_names import as_path
from dcgan.data.inventory import is_hidden
from dcgan.data.links import Linked
from dcgan.data.loose_files import LooseFiles, changed
from dcgan.system.errors import UserError
from dcgan.system.processor import cores
from dcgan.system.progress import progress

SIZE = (178, 218)  # width and height of an aligned picture
_SAMPLE = 16  # pictures of a folder whose size is looked at
_CHUNK = 256  # pictures that a thread hashes at a time
_MOST_BYTES = 1 << 27  # limit for a list; the published ones have at most 27 MB
_PICTURE = re.compile(r".*\.(jpe?g|png)", re.IGNORECASE)
_PACKED = re.compile(r".*\.(7z(\.[0-9]+)?|rar|tar|tgz|tar\.[a-z0-9]+)", re.IGNORECASE)


class Place(NamedTuple):
    """Where a file of the copy is."""

    archive: str  # a zip file, relative to the folder; empty: the file is loose
    member: str  # its name in the zip, or relative to the folder
    sha256: str  # of the zip, or of the loose file
    problem: str = ""  # why the picture must not be used

    @property
    def shown(self) -> str:
        return f"{self.archive}/{self.member}" if self.archive else self.member

    @property
    def folder(self) -> str:
        """The folder or zip that holds the file, for messages."""
        parent = PurePosixPath(self.shown).parent.as_posix()
        return "the folder" if parent == "." else parent


class Pictures(NamedTuple):
    """The pictures of the copy that the lists name."""

    places: dict[str, Place]  # by name
    digest: str  # SHA-256 over the names and the SHA-256s of the pictures, in the order of the names
    remarks: list[str]  # what was passed over


class Copy:
    """What a folder holds of CelebA."""

    def __init__(self, linked: Linked) -> None:
        """Reads the directories of the zip files.

        Args:
            linked: the folder, and all its files with their hashes.
        """
        self.folder = linked.folder
        self.remarks: list[str] = []  # files that cannot be used
        self.readers: dict[str, Archive | LooseFiles] = {
            "": LooseFiles(linked.folder, dict(zip(linked.files["file"], linked.files["sha256"], strict=True)))
        }
        self.zips: list[tuple[Path, int]] = []  # with their bytes
        self._files: list[Place] = []
        columns = (linked.files[name] for name in ("file", "size", "sha256", "problem"))
        for file, size, digest, problem in zip(*columns, strict=True):
            if _hidden(file):
                continue
            if file.lower().endswith(".zip"):
                path = Path(as_path(linked.folder, file))
                _check(path, size)
                self.zips.append((path, size))
                self._files += self._members(file, digest)
            else:
                self._files.append(Place("", file, digest, problem if _canonical(file) else ""))
                if packed := _packed(file):
                    self.remarks.append(packed)

    def _members(self, file: str, digest: str) -> Iterator[Place]:
        archive = opened(Path(as_path(self.folder, file)))
        if isinstance(archive, str):
            self.remarks.append(f"{file} cannot be read: {archive}")
            return
        self.readers[file] = archive
        seen = set()
        for member in archive.names:
            if not _hidden(member):
                yield Place(file, member, digest, f"it is in {file} twice" if member in seen else "")
            if packed := _packed(member, nested=True):
                self.remarks.append(f"{file}: {packed}")
            seen.add(member)

    def lists(self, stem: str) -> list[tuple[str, bytes]]:
        """Returns names and bytes of the lists whose names begin with `stem`.

        Raises:
            UserError: a list cannot be read, or has changed since the folder was linked.
        """
        return [(place.shown, self._list(place)) for place in self._named(stem)]

    def has(self, stem: str) -> bool:
        """Whether there is a list whose name begins with `stem`."""
        return any(self._named(stem))

    def _named(self, stem: str) -> Iterator[Place]:
        for place in self._files:
            name = _base(place.member).lower()
            if name.startswith(stem.lower()) and name.endswith((".txt", ".csv")):
                yield place

    def _list(self, place: Place) -> bytes:
        try:
            data = self.readers[place.archive].read(place.member)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"it has {len(data):,} bytes, more than the limit of {_MOST_BYTES:,} bytes")
        except ValueError as error:
            path = self.folder / place.shown
            raise UserError(f"{path}: the list cannot be read: {error}; replace the file.") from None
        return data

    def pictures(self, names: Iterable[str]) -> Pictures:
        """Finds the pictures with these names.

        Of several folders or zips with pictures of the same names, the one with the most of them is used.

        Raises:
            UserError: there are none, or they do not have the size of CelebA's aligned pictures.
        """
        listed = set(names)
        groups: dict[tuple[str, str], list[tuple[str, Place]]] = defaultdict(list)
        strange: list[Place] = []
        for place in self._files:
            name = _canonical(place.member)
            if name in listed:
                groups[place.archive, _parent(place.member)].append((name, place))
            elif _PICTURE.fullmatch(place.member):
                strange.append(place)
        remarks = [f"{len(strange):,} pictures are in no list (the first: {strange[0].shown})"] if strange else []
        places: dict[str, list[Place]] = defaultdict(list)
        odd: list[str] = []
        for _, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
            if problem := self._other_size([place for _, place in group]):
                odd.append(problem)
                remarks.append(f"{len(group):,} pictures in {group[0][1].folder} are not used: {problem}")
                continue
            for name, place in group:
                places[name].append(place)
        if not places:
            raise UserError(self._nothing(odd))
        return self._chosen(places, remarks)

    def _other_size(self, places: Sequence[Place]) -> str | None:
        """Says which picture has another size than the aligned ones, if most of a sample do; else None."""
        step = -(-len(places) // _SAMPLE)
        odd, sizes = [], 0
        for place in sorted(places)[::step]:
            try:
                height, width, *_ = simplejpeg.decode_jpeg_header(self.readers[place.archive].read(place.member))
            except ValueError:  # the crop says why it cannot be used
                continue
            sizes += 1
            if (width, height) != SIZE:
                odd.append(f"{place.shown} has {width}x{height} pixels, not {SIZE[0]}x{SIZE[1]}")
        return odd[0] if 2 * len(odd) > sizes else None

    def _nothing(self, odd: list[str]) -> str:
        if odd:
            return (
                f"{self.folder}: its pictures are not CelebA's aligned ones ({odd[0]}); link the folder that holds "
                "img_align_celeba, or use these as your own pictures with `dataset: folder`."
            )
        found = f" ({'; '.join(self.remarks[:3])})" if self.remarks else ""
        return (
            f"{self.folder}: it holds no pictures named as CelebA's, such as 000001.jpg{found}; link the folder that "
            "holds them, fetch CelebA after `dcgan data unlink`, or set `dataset: folder` to use your own pictures."
        )

    def _chosen(self, places: Mapping[str, Sequence[Place]], remarks: list[str]) -> Pictures:
        several = {name: digests(self.readers, found) for name, found in places.items() if len(found) > 1}
        chosen = {}
        for name in sorted(places):
            first = places[name][0]
            if len(set(several.get(name, []))) > 1:
                both = " and ".join(place.shown for place in places[name][:2])
                first = first._replace(problem=f"files of this name differ: {both}")
            chosen[name] = first
        if several:
            remarks.append(f"{len(several):,} pictures are there twice or more (the first: {min(several)})")
        return Pictures(chosen, digest_of(self.readers, chosen), remarks)


def opened(path: Path) -> Archive | str:
    """Opens a zip file; returns why it cannot be read if it cannot."""
    try:
        return Archive(path)
    except zipfile.BadZipFile:
        return web_page(path) or "it is not a valid zip file"
    except OSError as error:
        return f"{error.strerror or error}"


def _check(path: Path, size: int) -> None:
    """Raises the error `changed` if a file has another size or is not there; the crop verifies its SHA-256."""
    try:
        present = path.stat().st_size
    except OSError:
        raise changed(path, "it has been removed") from None
    if present != size:
        raise changed(path, "it has changed")


def digests(readers: Mapping[str, Archive | LooseFiles], places: Sequence[Place]) -> list[str]:
    """Returns the SHA-256 of each file; that of loose files is known, and a reason stands for an unreadable file."""
    results = []
    for place in places:
        try:
            data = readers[place.archive].read(place.member) if place.archive else b""
        except ValueError as error:
            results.append(str(error))
        else:
            results.append(hashlib.sha256(data).hexdigest() if place.archive else place.sha256)
    return results


def digest_of(readers: Mapping[str, Archive | LooseFiles], places: Mapping[str, Place]) -> str:
    """Returns the SHA-256 over names and SHA-256s of pictures, in the order of the names; all cores hash."""
    total = hashlib.sha256()
    names = sorted(places)
    chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        found = pool.map(lambda chunk: digests(readers, [places[name] for name in chunk]), chunks)
        ordered = (one for results in found for one in results)
        for name, one in zip(names, progress(ordered, len(names), "hashing", "pictures"), strict=True):
            total.update(f"{name} {one}\n".encode())
    return total.hexdigest()


def _hidden(file: str) -> bool:
    parts = [part for part in re.split(r"[/\\]", file) if part not in (".", "..")]
    return any(map(is_hidden, parts))


def _base(file: str) -> str:
    return re.split(r"[/\\]", file)[-1]


def _parent(file: str) -> str:
    return file[: len(file) - len(_base(file))]


def _canonical(file: str) -> str | None:
    """The name of a picture of CelebA, however it is written; None for other files."""
    name = re.sub(r"\.jpeg$", ".jpg", _base(file).lower())
    return name if NAME.fullmatch(name) else None


def _packed(file: str, nested: bool = False) -> str | None:
    """Says why an archive of another kind is not read; None for other files."""
    name = _base(file)
    if re.match(r"img_celeba\.7z", name, re.IGNORECASE):
        return f"{name} holds the pictures in the wild, which are not aligned"
    if _PACKED.fullmatch(name) or (nested and name.lower().endswith(".zip")):
        return f"{name} is an archive that is not read; unpack it"
    return None


def likely_copy(downloads: Path, known: Container[str]) -> str | None:
    """Returns the error sentence if the folder of downloads holds CelebA in another form than as published.

    Args:
        known: the names of the published files.
    """
    for path in sorted(downloads.iterdir()) if downloads.is_dir() else []:
        if path.name in known or _hidden(path.name):
            continue
        if re.match(r"img_.*\.7z", path.name, re.IGNORECASE):
            return (
                f"{path}: it is one of CelebA's 7z archives (pictures in the wild, or as PNG), which are not read; "
                "remove it to fetch the aligned pictures."
            )
        if _looks_like_celeba(path):
            alone = path.is_dir() and any(_is_list(file.name) for file in path.rglob("list_attr_celeba*"))
            folder = path if alone else downloads
            return (
                f"{path}: it looks like a copy of CelebA, but is not a published file; use it with "
                f"`dcgan data link {folder}`, or remove it to fetch the published files."
            )
    return None


def _looks_like_celeba(path: Path) -> bool:
    if path.is_dir():
        return any(_canonical(name) for _, _, names in os.walk(path) for name in names)
    if path.suffix.lower() == ".zip":
        archive = opened(path)
        return not isinstance(archive, str) and any(_canonical(name) for name in archive.names)
    return _is_list(path.name)


def _is_list(name: str) -> bool:
    return bool(re.fullmatch(r"list_(attr|eval|bbox|landmarks)_.*\.(txt|csv)", name, re.IGNORECASE))
