"""CelebA (Liu et al. 2015): fetches and verifies its files, and reads their layout.

CelebA has 202,599 aligned pictures of 178x218 pixels in one zip file, and text files beside it. It is for
non-commercial research only and may not be redistributed.
"""

from __future__ import annotations

import urllib.parse
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dcgan.data.fetching import DRIVE, PATIENT, File, Patience, fetch
from dcgan.data.index import SPLITS, Source, link_or_copy, take, write_index
from dcgan.data.request import Request
from dcgan.system.errors import UserError

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
    prepare(request.downloads, raw, request.size, published(request.mirror))


def prepare(downloads: Path, raw: Path, limit: int | None, files: Sequence[File], patience: Patience = PATIENT) -> None:
    """Fetches and verifies CelebA's files in `downloads`, links them into the new folder `raw`, and indexes them.

    Args:
        limit: maximum number of pictures to take, chosen by hash of their names; None: all.
        files: the result of `published`.

    Raises:
        UserError: a file cannot be fetched, or is not the one that its authors published.
    """
    fetch(files, downloads, SOURCE.url, patience)
    raw.mkdir(parents=True)
    for file in files:
        link_or_copy(downloads / file.name, raw / file.name)
    pictures = table(raw)
    write_index(raw, take(pictures, limit), SOURCE, len(pictures))


def table(raw: Path) -> pd.DataFrame:
    """Returns the pictures of a folder in CelebA's layout, with the source's own splits and attributes.

    If a picture is missing from a list or from the archive, its `problem` says so.
    """
    attributes = pd.read_csv(raw / ATTRIBUTES, sep=r"\s+", skiprows=1, index_col=0)
    partition = pd.read_csv(raw / PARTITION, sep=r"\s+", header=None, index_col=0)[1]
    with zipfile.ZipFile(raw / ARCHIVE) as archive:
        members = {Path(name).name for name in archive.namelist() if name.endswith(".jpg")}
    names = pd.Index(sorted(members.union(attributes.index, partition.index)))
    problem = pd.Series("", index=names)
    for place, known in ((PARTITION, partition.index), (ATTRIBUTES, attributes.index), (ARCHIVE, members)):
        problem[~names.isin(list(known))] = f"it is not in {place}"
    pictures = pd.DataFrame(
        {
            "archive": ARCHIVE,
            "file": [f"{FOLDER}/{name}" for name in names],
            "split": [SPLITS[i] for i in partition.reindex(names, fill_value=0)],
            "problem": problem.to_numpy(),
        }
    )
    return pd.concat([pictures, attributes.reindex(names, fill_value=0).astype("int8").reset_index(drop=True)], axis=1)
