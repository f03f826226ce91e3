"""CelebA (Liu et al. 2015): fetches and verifies its files, or takes a copy that the user has, and reads their layout.

CelebA has 202,599 aligned pictures of 178x218 pixels in one zip file, and text files beside it. It is for
non-commercial research only and may not be redistributed. The rows of the index are the names in the lists, whatever
the copy is, so that every copy of the same pictures gives the same faces.
"""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dcgan.data.archives import Archive
from dcgan.data.celeba_copy import Copy, Place, digest_of, likely_copy
from dcgan.data.celeba_lists import NAME, Listed, read_attributes, read_partition
from dcgan.data.fetching import DRIVE, PATIENT, File, Patience, fetch, mismatch
from dcgan.data.index import SPLITS, Source, link_or_copy, take, write_index
from dcgan.data.links import Linked
from dcgan.data.request import Request
from dcgan.system.errors import UserError
from dcgan.system.progress import say

ARCHIVE = "img_align_celeba.zip"
FOLDER = "img_align_celeba"  # inside the archive
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
BOXES = "list_bbox_celeba.txt"
IDENTITIES = "identity_CelebA.txt"

SOURCE = Source(
    name="CelebA, aligned and cropped",
    licence="non-commercial research only; no redistribution (the CelebA agreement)",
    citation="Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild. ICCV 2015",
    url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
)
COUNT = 202_599  # pictures
_LISTS: dict[str, Callable[[bytes, str], Listed]] = {ATTRIBUTES: read_attributes, PARTITION: read_partition}
# Servers with the files under their own names, tried if Google Drive fails; the fetched files are verified.
MIRRORS = (
    "https://cseweb.ucsd.edu/~weijian/static/datasets/celeba",
    "https://huggingface.co/datasets/Yuehao/celeba/resolve/main",
)
# Name, bytes, MD5 and Google Drive id; MD5 and id are those of torchvision.datasets.CelebA.file_list.
_PUBLISHED = (
    (ARCHIVE, 1_443_490_838, "00d2c5bc6d35e252742224ab0c1e8fcb", "0B7EVK8r0v71pZjFTYXZWM3FlRnM"),
    (ATTRIBUTES, 26_721_026, "75e246fa4810816ffd6ee81facbd244c", "0B7EVK8r0v71pblRyaVFSWGxPY0U"),
    (PARTITION, 2_836_386, "d32c9cbf5e040fd4025c592c306e6668", "0B7EVK8r0v71pY0NSMzRuSXJEVkk"),
    (LANDMARKS, 12_156_055, "cc24ecafdb5b50baae59b03474781f8c", "0B7EVK8r0v71pd0FJY3Blby1HUTQ"),
    (BOXES, 6_082_035, "00566efa6fedff7a56946cd1c10f1c16", "0B7EVK8r0v71pbThiMVRxWXZ4dU0"),
    (IDENTITIES, 3_424_458, "32bd1bd63d3c78cd57e08160ec5ed1e2", "1_ee_0u7vcNLOfNLegJRHmolfH5ICW-XS"),
)


def published(mirror: str | None = None) -> list[File]:
    """Returns CelebA's files and their addresses: the user's own `mirror` (a folder), Google Drive, then MIRRORS.

    Raises:
        UserError: `mirror` is not the address of a folder.
    """
    own = [_address(mirror)] if mirror else []
    return [
        File(name, size, md5, (*(f"{m}/{name}" for m in own), DRIVE + drive, *(f"{m}/{name}" for m in MIRRORS)))
        for name, size, md5, drive in _PUBLISHED
    ]


def _address(mirror: str) -> str:
    try:
        parts = urllib.parse.urlsplit(mirror)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:
        sound = False
    if not sound:  # the message does not show the value, which may hold a password
        raise UserError(
            "CELEBA_MIRROR: it must be an http or https address and have no query; give one like https://host/folder, "
            "or unset it."
        )
    return mirror.rstrip("/")


def bring(raw: Path, request: Request) -> None:
    """Prepares the data set; called by the stage `download`."""
    files = published(request.mirror)
    if request.linked:
        prepare_copy(request.linked, request.downloads, raw, request.size, files)
    else:
        prepare(request.downloads, raw, request.size, files)


def prepare(downloads: Path, raw: Path, limit: int | None, files: Sequence[File], patience: Patience = PATIENT) -> None:
    """Fetches and verifies CelebA's files in `downloads`, links them into the new folder `raw`, and indexes them.

    The lists that the pipeline does not read are fetched too where that is possible. They stay in `downloads`: whether
    they could be had must not change data/raw.

    Args:
        limit: maximum number of pictures to take, chosen by hash of their names; None: all.
        files: the result of `published`.

    Raises:
        UserError: a file cannot be fetched, or is not the one that its authors published.
    """
    needed = [file for file in files if file.name in (ARCHIVE, *_LISTS)]
    if not (downloads / ARCHIVE).exists() and (found := likely_copy(downloads, {file.name for file in files})):
        raise UserError(found)
    fetch(needed, downloads, SOURCE.url, patience, _ways(downloads))
    _fetch_others([file for file in files if file not in needed], downloads, patience)
    raw.mkdir(parents=True)
    for file in needed:
        link_or_copy(downloads / file.name, raw / file.name)
    pictures = table(raw)
    write_index(raw, take(pictures, limit), SOURCE._replace(verified=_published(raw)), len(pictures))


def _ways(downloads: Path) -> str:
    return (
        "use another copy of CelebA, such as Kaggle's or an unpacked one, with `dcgan data link FOLDER` "
        f"(also for a folder in {downloads}), or your own pictures with `dataset: folder`"
    )


def _fetch_others(files: Iterable[File], downloads: Path, patience: Patience) -> None:
    """Fetches what the pipeline does not need, without much patience; a line says what could not be had."""
    for file in files:
        try:
            fetch([file], downloads, SOURCE.url, patience._replace(timeout=min(patience.timeout, 5), attempts=1))
        except UserError as error:
            say(f"{str(error).splitlines()[0].rstrip(':.')}; the pipeline does not need it, and goes on")


def table(raw: Path) -> pd.DataFrame:
    """Returns the pictures of a folder in CelebA's layout, with the source's own splits and attributes.

    If a picture is missing from a list or from the archive, its `problem` says so.
    """
    attributes, partition = (read((raw / name).read_bytes(), name) for name, read in _LISTS.items())
    return _rows(attributes, partition, _members(raw), ARCHIVE).drop(columns=["member", "sha256"])


def _members(raw: Path) -> dict[str, Place]:
    names = Archive(raw / ARCHIVE).names
    return {Path(name).name: Place(ARCHIVE, name, "") for name in names if NAME.fullmatch(Path(name).name)}


def _rows(attributes: Listed, partition: Listed, places: Mapping[str, Place], where: str) -> pd.DataFrame:
    """Returns a row for each name in the lists.

    Args:
        places: of the pictures, by name.
        where: they are, for the reason why one cannot be used.
    """
    names = pd.Index(
        sorted({name for each in (attributes, partition) for name in (*each.values.index, *each.problems)})
    )
    problem = pd.Series("", index=names)
    for listed in (partition, attributes):
        problem[~names.isin(listed.values.index)] = f"it is not in {listed.name}"
        problem.update(pd.Series({name: f"{listed.name}: {why}" for name, why in listed.problems.items()}, dtype="str"))
    problem[~names.isin(list(places))] = f"it is not in {where}"
    problem.update(pd.Series({name: place.problem for name, place in places.items() if place.problem}, dtype="str"))
    nowhere = next(iter(places.values()), Place(ARCHIVE, "", ""))._replace(member="")
    found = [places.get(name, nowhere) for name in names]
    pictures = pd.DataFrame(
        {
            "archive": [place.archive for place in found],
            "file": [f"{FOLDER}/{name}" for name in names],
            "split": [SPLITS[i] for i in partition.values["partition"].reindex(names, fill_value=0)],
            "problem": problem.to_numpy(),
            "member": [place.member for place in found],
            "sha256": [place.sha256 for place in found],
        }
    )
    return pd.concat([pictures, attributes.values.reindex(names, fill_value=0).reset_index(drop=True)], axis=1)


def _published(raw: Path) -> str:
    places = _members(raw)
    digest = digest_of({ARCHIVE: Archive(raw / ARCHIVE)}, {name: places[name] for name in sorted(places)})
    return f"the published archive and lists, by their MD5s; {_counted(len(places), digest)}"


def prepare_copy(
    linked: Linked,
    downloads: Path,
    raw: Path,
    limit: int | None,
    files: Sequence[File],
    patience: Patience = PATIENT,
) -> None:
    """Indexes the copy of CelebA in a folder that the user has linked; nothing is written there, or copied from there.

    A list of attributes or splits that the copy lacks is fetched.

    Args:
        limit: maximum number of pictures to take, chosen by hash of their names; None: all.
        files: the result of `published`.

    Raises:
        UserError: the folder holds no pictures of CelebA, a list cannot be used, or a file has changed since the folder
            was linked.
    """
    copy, known = Copy(linked), {file.name: file for file in files}
    apart = not downloads.resolve().is_relative_to(linked.folder.resolve())
    lists, as_published = [], True
    for name, read in _LISTS.items():
        listed, same = _list_of(copy, known[name], read, downloads if apart else None, patience)
        lists.append(listed)
        as_published &= same
    attributes, partition = lists
    pictures = copy.pictures(attributes.names | partition.names)
    if apart:
        others = [file for file in files if file.name not in (ARCHIVE, *_LISTS)]
        _fetch_others([file for file in others if not copy.has(Path(file.name).stem)], downloads, patience)
    rows = _rows(attributes, partition, pictures.places, str(linked.folder))
    remarks = [*_disagreements(rows, lists), *pictures.remarks, *copy.remarks]
    archives = {place.archive for place in pictures.places.values()}
    whole = [path for path, size in copy.zips if size == known[ARCHIVE].size and not mismatch(path, known[ARCHIVE])]
    if archives == {path.relative_to(linked.folder).as_posix() for path in whole}:
        origin = f"the published archive ({whole[0].name}), by its MD5"
    else:
        places = sorted({place.folder for place in pictures.places.values()})
        origin = f"not the published archive, but the pictures in {', '.join(places[:3])}{' ...' * (len(places) > 3)}"
    lists_are = "the published ones, by their MD5s" if as_published else "not the published ones"
    origin += f"; the lists {attributes.name} and {partition.name} are {lists_are}"
    verified = "; ".join([origin, _counted(len(pictures.places), pictures.digest), *remarks])
    raw.mkdir(parents=True)
    write_index(raw, take(rows, limit), SOURCE._replace(folder=str(linked.folder), verified=verified), len(rows))


def _counted(count: int, digest: str) -> str:
    of = f"all {COUNT:,} pictures" if count == COUNT else f"{count:,} of {COUNT:,} pictures"
    return f"{of}, SHA-256 over their names and SHA-256s {digest}"


def _list_of(
    copy: Copy, file: File, read: Callable[[bytes, str], Listed], downloads: Path | None, patience: Patience
) -> tuple[Listed, bool]:
    """Returns a list of the copy, else the published one, and whether it is the published one."""
    found = copy.lists(Path(file.name).stem)
    if not found and downloads is None:
        raise UserError(
            f"{copy.folder}: it holds no {file.name} (or .csv); put it there and run `dcgan data link` again."
        )
    if not found and downloads:
        fetch([file], downloads, SOURCE.url, patience, _ways(downloads))
        found = [(file.name, (downloads / file.name).read_bytes())]
    name, data = found[0]
    listed = read(data, name)
    for other, content in found[1:]:
        if content != data and not listed.same(read(content, other)):
            raise UserError(f"{copy.folder}: {name} and {other} differ; remove one of them, or move it elsewhere.")
    return listed, hashlib.new("md5", data, usedforsecurity=False).hexdigest() == file.digest


def _disagreements(rows: pd.DataFrame, lists: Sequence[Listed]) -> list[str]:
    """Says how many pictures cannot be used for each reason, and what is odd about the lists."""
    counts = rows.loc[rows["problem"] != "", "problem"].value_counts()
    said = [f"{count:,} pictures of the lists cannot be used: {reason}" for reason, count in sorted(counts.items())]
    more = [f"there are {len(said) - 5} other reasons"] if len(said) > 5 else []
    unusable = [*said[:5], *more] or ["every picture of the lists was found"]
    return [*unusable, *(f"{listed.name}: {remark}" for listed in lists for remark in listed.remarks)]
