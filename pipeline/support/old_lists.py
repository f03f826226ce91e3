"""Lists of the files in linked folders that nothing refers to, for `dcgan clean`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dcgan.system.leftovers import Leftover, age, remove_all, size
from dcgan.system.project_files import LINK, LINKS
from dcgan.tracking.repository import git
from pipeline.support.dvc_working import STASHES, copies, reflog


def old_lists(root: Path, days: float) -> Iterator[Leftover]:
    """The lists that data/link.json names neither here nor in a copy, HEAD, git's stash or DVC's queue.

    An older commit may name one: `dcgan data link` writes it again.
    """
    commits = ["HEAD", *(commit for reference in STASHES for commit, _ in reflog(root, reference))]
    links = [git(root, "show", f"{commit}:{LINK}").stdout for commit in commits]
    links += [(folder / LINK).read_text() for folder in (root, *copies(root)) if (folder / LINK).exists()]
    lists = (root / LINKS).glob("*.parquet")
    old = [path for path in lists if not any(path.stem in link for link in links) and age(path) >= days]
    if old:
        why = f"lists of linked folders that {LINK} does not name any more"
        yield Leftover(str(LINKS), len(old), size(old), why, partial(remove_all, old))
