"""CelebA as people have it: Kaggle's copy, an unpacked one, a zip made by hand; made of files as published."""

from __future__ import annotations

import zipfile
from pathlib import Path

from dcgan.data.inventory import take_in
from dcgan.data.links import Linked
from dcgan.data.sources import celeba

CSV = {celeba.ATTRIBUTES: "list_attr_celeba.csv", celeba.PARTITION: "list_eval_partition.csv"}


def linked(folder: Path) -> Linked:
    """The folder and what it holds, as the user's link to it says."""
    return Linked(folder, take_in(folder))


def copied(downloads: Path, target: Path) -> Path:
    """The published files in a folder outside of the project."""
    target.mkdir(parents=True)
    for path in downloads.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    return target


def unpacked(downloads: Path, target: Path) -> Path:
    """The pictures beside the lists."""
    copied(downloads, target)
    with zipfile.ZipFile(target / celeba.ARCHIVE) as archive:
        archive.extractall(target)
    (target / celeba.ARCHIVE).unlink()
    return target


def kaggle(downloads: Path, target: Path) -> Path:
    """As Kaggle's data set is unpacked: the pictures nested twice, lists of comma-separated values, no identities."""
    unpacked(downloads, target)
    (target / "img_align_celeba").rename(target / "pictures")
    (target / "img_align_celeba").mkdir()
    (target / "pictures").rename(target / "img_align_celeba" / "img_align_celeba")
    (target / celeba.IDENTITIES).unlink()
    for name in (celeba.ATTRIBUTES, celeba.PARTITION, celeba.LANDMARKS, celeba.BOXES):
        rows = [line.split() for line in (target / name).read_text().splitlines()]
        if name == celeba.PARTITION:
            rows.insert(0, ["image_id", "partition"])
        else:
            rows = rows[1:]
            rows[0] = ["image_id", *(column for column in rows[0] if column != "image_id")]
        (target / name).unlink()
        (target / name).with_suffix(".csv").write_text("".join(",".join(row) + "\n" for row in rows))
    return target


def rezipped(downloads: Path, target: Path) -> Path:
    """One zip of everything, made on a Mac, with the folders in it and what a Mac adds."""
    unpacked(downloads, target / "CelebA")
    with zipfile.ZipFile(target / "my celeba.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((target / "CelebA").rglob("*"), reverse=True):
            archive.write(path, path.relative_to(target))
            if path.suffix == ".jpg":
                archive.writestr(f"__MACOSX/{path.parent.relative_to(target)}/._{path.name}", b"\0\5\x16\7")
                path.unlink()
    for path in sorted((target / "CelebA").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (target / "CelebA").rmdir()
    return target


COPIES = {"published": copied, "unpacked": unpacked, "kaggle": kaggle, "zipped": rezipped}
