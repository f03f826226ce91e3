"""What the running stage depends on, taken in before its code is imported, to be compared at its end.

DVC hashes parameters, code and data only after a stage has ended. Without this comparison, a change made meanwhile
would be recorded in dvc.lock and in the run cache as what made the outs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.support.dvc_files import ROOT, files_inside, stages

RANK_OF = "--rank-of"  # option of a stage that another process has started as a rank
CODE = ("src/", "pipeline/")  # deps that are compared by their bytes; others by size, modification time and inode


@dataclass(frozen=True)
class Inputs:
    """The inputs of a stage, at one moment."""

    stage: str
    params: str  # text of params.yaml
    code: dict[str, str]  # MD5 by path, empty if the file is missing
    data: dict[str, dict[str, list[int]]]  # size, modification time in ns and inode, by dep and by path of the file


def take(stage: str) -> Inputs:
    """Takes in what the stage depends on now."""
    deps = stages()[stage].get("deps", [])
    params = ROOT / "params.yaml"
    return Inputs(
        stage,
        params.read_text(errors="replace") if params.is_file() else "",
        {dep: md5(ROOT / dep) for dep in deps if dep.startswith(CODE)},
        {dep: _files(ROOT / dep) for dep in deps if not dep.startswith(CODE)},
    )


def md5(path: Path) -> str:
    """The MD5 of a file's bytes in hexadecimal, as DVC computes it; empty if there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _files(path: Path) -> dict[str, list[int]]:
    """Size, modification time and inode of a file, or of all files in a folder and in those that it links to."""
    found: dict[str, list[int]] = {}
    for file in [path] if path.is_file() else files_inside(path):
        with contextlib.suppress(OSError):
            about = file.stat()
            found[str(file.relative_to(ROOT))] = [about.st_size, about.st_mtime_ns, about.st_ino]
    return found


def _command() -> tuple[str, Path | None]:
    """The stage that this process runs as `python -m pipeline.STAGE`, and the FILE of `--rank-of FILE` after it."""
    words = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else [""]
    stage = words[0].removeprefix("pipeline.")
    if stage == words[0] or stage not in stages():
        return "", None
    return stage, Path(words[2]) if words[1:2] == [RANK_OF] and len(words) > 2 else None


STAGE, RANK_FILE = _command()  # the stage; and the file of the process that started this one as a rank of the stage
TAKEN = Inputs(**json.loads(RANK_FILE.read_bytes())["inputs"]) if RANK_FILE else take(STAGE) if STAGE else None
