"""Crops every picture of data/raw to a face, and packs the faces into arrays, on all cores and in bounded memory.

The workers are forks of this process. Threads, which are used where a fork is not safe, wait for the interpreter's lock
several times per picture; other processes would have to import torch and read the archive's directory again.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from dcgan.data.archives import Archive
from dcgan.data.decoding import shrink, square
from dcgan.data.images import Pixels
from dcgan.data.index import PLACE, SPLITS, read_index, stored_as
from dcgan.data.loose_files import LooseFiles, changed
from dcgan.system.errors import UserError
from dcgan.system.files import sha256
from dcgan.system.processor import cores
from dcgan.system.progress import progress
from dcgan.system.worker_pool import sharing_pool

# Pictures per task of a worker. The number bounds the memory. It also keeps the sums of squared levels below 2**24, up
# to which float32 represents every integer.
_CHUNK = 64
_BATCH_BYTES = 1 << 25  # limit for the squares that are resized in one call
_REFUSED = ", fewer than image_size, and refuse_enlarged is true"

Sums = npt.NDArray[np.floating[Any]]
_job: _Job  # of this worker


class Cropped(NamedTuple):
    """The result of cropping some pictures."""

    results: list[bytes | str]  # SHA-256 of each face's pixels, or why the picture cannot be used
    total: Sums  # sum of the faces' levels, (H, W, C)
    total_squared: Sums  # sum of the squared levels, (H, W, C)
    enlarged: int = 0  # number of pictures whose square is smaller than a face, refused ones included

    @property
    def digests(self) -> list[bytes]:
        """The hashes of the faces, without the pictures that cannot be used."""
        return [result for result in self.results if isinstance(result, bytes)]


class _Job(NamedTuple):
    """Where the pictures are, how to crop them, and where to write the faces."""

    archives: dict[str, Archive | LooseFiles]  # by file name; "": the loose files
    array: int  # descriptor of the .npy file, through which a worker that outlives its stage harms no newer file
    begin: int  # offset of the first face in that file, in bytes
    crop_size: int | None
    shape: tuple[int, int, int]  # of a face
    refuse_enlarged: bool
    stop: mmap.mmap  # a byte in shared memory; not 0: skip the remaining pictures


def pack(
    raw: Path,
    faces: Path,
    crop_size: int | None,
    image_size: int,
    nc: int,
    max_bad_fraction: float,
    workers: int | None = None,
    refuse_enlarged: bool = False,
) -> dict[str, Cropped]:
    """Crops every picture of `raw` into the new folder `faces`, and returns the result for each split.

    Writes faces.npy, uint8 of shape (N, image_size, image_size, nc), which holds the splits train, valid and test one
    after the other, and faces.parquet, which has one row per face in the same order: file, split, attributes. The bytes
    do not depend on the number of `workers` (None: one per core). With `refuse_enlarged`, pictures whose square is
    smaller than a face are left out; they do not count as unusable in `max_bad_fraction`.

    Raises:
        UserError: there are no pictures, more than `max_bad_fraction` of them cannot be used, all are refused, one in a
            folder outside of the project has changed, or a worker was killed.
    """
    pictures, source = read_index(raw)
    if pictures.empty:
        raise UserError("dataset: it holds no pictures; choose another data set.")
    faces.mkdir(parents=True)
    archives = _open(raw, source.folder, pictures)
    array, shape = faces / "faces.npy", (image_size, image_size, nc)
    begin = _create(array, (len(pictures), *shape))
    cropped, parts, bad, first = {}, [], [], 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the workers already use every core
    with array.open("r+b") as file, mmap.mmap(-1, 1) as stop:
        job = _Job(archives, file.fileno(), begin, crop_size, shape, refuse_enlarged, stop)
        with sharing_pool(workers, partial(_begin, job)) as pool:
            try:
                for split in SPLITS:
                    rows = pictures[pictures["split"] == split]
                    cropped[split] = _pack_split(pool, shape, first, rows, split)
                    first += len(rows)
                    parts.append(rows)
                    bad += unusable(rows, cropped[split])
            finally:
                stop[0] = 1  # after Ctrl-C, running tasks end early
                torch.set_num_threads(threads)
    _check(bad, len(pictures), max_bad_fraction)
    good = np.array([isinstance(result, bytes) for split in SPLITS for result in cropped[split].results], bool)
    if not good.all():
        _keep(array, good)
    table = pd.concat(parts)[good].drop(columns=["archive", "problem", *PLACE], errors="ignore")
    table.to_parquet(faces / "faces.parquet", index=False)
    return cropped


def _open(raw: Path, linked: str, pictures: pd.DataFrame) -> dict[str, Archive | LooseFiles]:
    """Opens the archives in `raw`, or the archives and the loose files in the folder `linked`."""
    if not linked:
        return {name: _archive(raw / name) for name in pictures["archive"].unique()}
    if not Path(linked).is_dir():
        raise UserError(f"{linked}: there is no such folder; mount it, or name another with `dcgan data link FOLDER`.")
    opened: dict[str, Archive | LooseFiles] = {}
    for name, rows in pictures.groupby("archive"):
        path = Path(linked, str(name))
        if not name:
            opened[""] = LooseFiles(path, dict(zip(stored_as(rows), rows["sha256"], strict=True)))
        elif not path.is_file() or sha256(path) != rows["sha256"].iloc[0]:
            raise changed(path, "it has changed or gone")
        else:
            opened[str(name)] = _archive(path)
    return opened


def _check(bad: list[dict[str, str]], count: int, max_bad_fraction: float) -> None:
    """Raises UserError if `bad` is too many of `count` pictures; refused ones do not count, unless all are."""
    damaged = [row for row in bad if not row["reason"].endswith(_REFUSED)]
    if not damaged and len(bad) == count:
        raise UserError(f"refuse_enlarged: no picture is left ({bad[0]['file']}: {bad[0]['reason']}); set it to false.")
    if len(damaged) > max_bad_fraction * count:
        raise UserError(
            f"max_bad_fraction: {len(damaged)} of {count} pictures cannot be used, a share above "
            f"{max_bad_fraction:g} (the first is {damaged[0]['file']}: {damaged[0]['reason']}); "
            "repair or remove them, or raise the value."
        )
    if len(bad) == count:
        raise UserError(
            f"dataset: none of its {count} pictures can be used (the first is {bad[0]['file']}: {bad[0]['reason']}); "
            "repair or replace them."
        )


def _archive(path: Path) -> Archive:
    try:
        return Archive(path)
    except (zipfile.BadZipFile, FileNotFoundError):
        raise UserError(
            f"{path}: it is missing or not a zip file; create it again with `dvc repro --force download`."
        ) from None


def unusable(rows: pd.DataFrame, cropped: Cropped) -> list[dict[str, str]]:
    """Returns file and reason of each picture that cannot be used."""
    results = zip(rows["file"].tolist(), cropped.results, strict=True)
    return [{"file": file, "reason": result} for file, result in results if isinstance(result, str)]


def _pack_split(pool: Executor, shape: tuple[int, int, int], first: int, rows: pd.DataFrame, split: str) -> Cropped:
    total, total_squared = np.zeros(shape), np.zeros(shape)
    enlarged = 0

    def results() -> Iterator[bytes | str]:
        nonlocal enlarged
        for portion in _portions(pool, first, rows):
            np.add(total, portion.total, out=total)
            np.add(total_squared, portion.total_squared, out=total_squared)
            enlarged += portion.enlarged
            yield from portion.results

    found = list(progress(results(), len(rows), f"cropping {split}", "pictures"))
    return Cropped(found, total, total_squared, enlarged)


def _portions(pool: Executor, first: int, rows: pd.DataFrame) -> Iterator[Cropped]:
    """Yields the results of the workers, in the order of `rows`; only a few wait at a time."""
    waiting: list[Future[Cropped]] = []
    columns = rows["archive"], stored_as(rows), rows["problem"]
    members = list(zip(*(column.tolist() for column in columns), strict=True))
    for start in range(0, len(members), _CHUNK):
        waiting.append(pool.submit(_crop, first + start, members[start : start + _CHUNK]))
        if len(waiting) > 4 * cores():
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _begin(job: _Job) -> None:
    """Tells a worker once what to do."""
    global _job
    _job = job


def _crop(start: int, members: list[tuple[str, str, str]]) -> Cropped:
    """Writes the faces of members (archive, member, problem) to the rows from `start` on; black if unusable."""
    job = _job
    block = np.zeros((len(members), *job.shape), np.uint8)
    results: list[bytes | str] = [problem for _, _, problem in members]
    enlarged = 0

    def squares() -> Iterator[tuple[int, Pixels]]:
        nonlocal enlarged
        for i, (archive, file, problem) in enumerate(members):
            if job.stop[0]:
                return
            if problem:
                continue
            try:
                pixels = square(job.archives[archive].read(file), job.crop_size, job.shape[2])
            except ValueError as error:
                results[i] = str(error)
                continue
            small = len(pixels) < job.shape[0]
            enlarged += small
            if small and job.refuse_enlarged:
                results[i] = f"its square has {len(pixels)} pixels a side{_REFUSED}"
            else:
                yield i, pixels

    for places, batch in _batches(squares()):
        block[places] = shrink(batch, job.shape[0])
        for i in places:
            results[i] = hashlib.sha256(block[i]).digest()
    _write(job.array, block.data.cast("B"), job.begin + start * block[0].nbytes)
    levels = block.astype(np.float32)
    return Cropped(results, levels.sum(0), np.square(levels, out=levels).sum(0), enlarged)


def _write(file: int, data: memoryview, at: int) -> None:
    """Writes to a descriptor that workers share; not to a memory map, so that a full disk raises an error."""
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written


def _batches(squares: Iterator[tuple[int, Pixels]]) -> Iterator[tuple[list[int], Pixels]]:
    """Groups consecutive squares of the same size into batches of limited size; yields (numbers, squares)."""
    places: list[int] = []
    batch = np.empty((0, 0, 0, 0), np.uint8)
    for i, one in squares:
        if places and (one.shape != batch.shape[1:] or len(places) == len(batch)):
            yield places, batch[: len(places)]
            places = []
        if one.shape != batch.shape[1:]:
            batch = np.empty((max(1, min(_CHUNK, _BATCH_BYTES // one.nbytes)), *one.shape), np.uint8)
        batch[len(places)] = one
        places.append(i)
    if places:
        yield places, batch[: len(places)]


def _create(path: Path, shape: tuple[int, ...]) -> int:
    """Creates an .npy file of uint8 zeros, to be overwritten; returns the offset of the array in bytes."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        begin = file.tell()
        file.truncate(begin + math.prod(shape))
    return begin


def _keep(path: Path, good: npt.NDArray[np.bool_]) -> None:
    """Rewrites the array at `path` with only the faces that are `good`."""
    old, shorter = np.load(path, mmap_mode="r"), path.with_suffix(".shorter")
    begin = _create(shorter, (int(good.sum()), *old.shape[1:]))
    with shorter.open("r+b") as file:
        file.seek(begin)
        for start in range(0, len(old), 4096):
            file.write(old[start : start + 4096][good[start : start + 4096]].data)
    shorter.replace(path)
