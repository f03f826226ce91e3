"""CelebA (Liu et al. 2015): its file layout, and its files verified.

202,599 aligned pictures of 178x218 in one zip, and text files beside it. For non-commercial research
only; it may not be redistributed.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dcgan.datasets.index import SPLITS, link_or_copy, take, write_index
from dcgan.errors import UserError

ARCHIVE = "img_align_celeba.zip"
FOLDER = "img_align_celeba"  # inside the archive
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
BOXES = "list_bbox_celeba.txt"
IDENTITIES = "identity_CelebA.txt"

# The MD5s that the authors' release is known by; the same as in torchvision.datasets.CelebA.file_list.
MD5 = {
    ARCHIVE: "00d2c5bc6d35e252742224ab0c1e8fcb",
    ATTRIBUTES: "75e246fa4810816ffd6ee81facbd244c",
    PARTITION: "d32c9cbf5e040fd4025c592c306e6668",
    LANDMARKS: "cc24ecafdb5b50baae59b03474781f8c",
    BOXES: "00566efa6fedff7a56946cd1c10f1c16",
    IDENTITIES: "32bd1bd63d3c78cd57e08160ec5ed1e2",
}


def prepare(downloads: Path, raw: Path, most: int | None, md5: Mapping[str, str] = MD5) -> None:
    """Verifies CelebA's files in `downloads`, links them into the new folder `raw` and indexes them.

    Args:
        most: pictures to take, chosen by hash of their names; None: all.
        md5: the hash that each file must have.

    Raises:
        UserError: a file is absent, or is not the one that its authors published.
    """
    if absent := [name for name in md5 if not (downloads / name).is_file()]:
        raise UserError(
            f"dataset: celeba needs {', '.join(absent)} in {downloads}; get the aligned pictures and their lists "
            "from the CelebA project (mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and put them there."
        )
    raw.mkdir(parents=True)
    for name, expected in md5.items():
        with (downloads / name).open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != expected:
            raise UserError(
                f"{downloads / name}: its MD5 is {found}, not CelebA's {expected}; "
                "it is damaged or another file, so fetch it again."
            )
        link_or_copy(downloads / name, raw / name)
    write_index(raw, take(table(raw), most))


def table(raw: Path) -> pd.DataFrame:
    """The pictures of a folder in CelebA's layout, with the source's own split and attributes.

    Raises:
        UserError: the lists and the archive do not name the same pictures.
    """
    attributes = pd.read_csv(raw / ATTRIBUTES, sep=r"\s+", skiprows=1, index_col=0)
    partition = pd.read_csv(raw / PARTITION, sep=r"\s+", header=None, index_col=0)[1]
    with zipfile.ZipFile(raw / ARCHIVE) as archive:
        members = {Path(name).name for name in archive.namelist() if name.endswith(".jpg")}
    for name, listed in ((ATTRIBUTES, attributes.index), (PARTITION, partition.index)):
        if odd := sorted(members ^ set(listed)):
            raise UserError(f"{name}: {len(odd)} pictures are not both in it and in {ARCHIVE}, the first is {odd[0]}.")
    names = sorted(members)
    pictures = pd.DataFrame(
        {
            "archive": ARCHIVE,
            "file": [f"{FOLDER}/{name}" for name in names],
            "split": [SPLITS[i] for i in partition.loc[names]],
        }
    )
    return pd.concat([pictures, attributes.loc[names].astype("int8").reset_index(drop=True)], axis=1)
