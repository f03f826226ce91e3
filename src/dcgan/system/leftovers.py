"""What `dcgan clean` looks at: files that nothing needs any more, and similar files that it keeps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcgan.system.files import remove


@dataclass(frozen=True)
class Leftover:
    """Files that belong together.

    Args:
        where: the folder that they are in, relative to the project's folder.
        count: how many of them there are.
        size: bytes.
        why: why nothing needs them, or why they are kept.
        remove: removes them, or raises UserError if they are needed again; None if they are kept.
    """

    where: str
    count: int
    size: int
    why: str
    remove: Callable[[], object] | None = None


def files_in(path: Path) -> list[os.stat_result]:
    """What the system says about a file or folder and all that it contains; links are not followed."""
    found = [path.lstat()] if path.exists() or path.is_symlink() else []
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            try:
                found.append(Path(folder, name).lstat())
            except FileNotFoundError:  # its process has just removed it
                continue
    return found


def size(paths: Iterable[Path]) -> int:
    """Bytes in files and folders."""
    return sum(about.st_size for path in paths for about in files_in(path))


def age(path: Path) -> float:
    """Days since a file, or anything in a folder, was last changed."""
    newest = max((about.st_mtime for about in files_in(path)), default=time.time())
    return max(0.0, (time.time() - newest) / 86400)


def remove_all(paths: Iterable[Path]) -> None:
    """Removes files, and folders with all they contain."""
    for path in paths:
        remove(path)


def in_bytes(number: float) -> str:
    """A number of bytes with its unit, in three digits."""
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB" if number < 1000 else f"{number:,.0f} GB"


def table(leftovers: Sequence[Leftover]) -> str:
    """One line for each: where, how many, size and reason."""
    width = max(len(each.where) for each in leftovers)
    return "\n".join(
        f"  {each.where:<{width}}  {each.count or '':>6}  {in_bytes(each.size) if each.count else '':>8}  {each.why}"
        for each in leftovers
    )
