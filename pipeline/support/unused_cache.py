"""Objects in DVC's cache that nothing refers to, for `dcgan clean`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import yaml
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo

from dcgan.system.errors import UserError
from dcgan.system.leftovers import Leftover, age, size
from pipeline.support.dvc_working import STASHES, copies, reflog, working


def unused_cache(root: Path, days: float) -> Iterator[Leftover]:
    """The objects that `dvc gc --workspace --all-commits --all-experiments` would remove, if `days` days old.

    Unlike there, what git's stash and experiments in DVC's queue refer to stays; and of a stage whose outs are in use,
    all that restores it from the run cache: its metrics are in the cache, but dvc.lock does not refer to them there.
    """
    repo = Repo(str(root))
    cache = Path(repo.cache.local_cache_dir).resolve()
    if not cache.is_relative_to(root.resolve()):
        why = "DVC's cache is outside of this project, and other projects may use it; see `dvc gc --projects`"
        yield Leftover(str(cache), 0, 0, why)
        return
    try:
        old = [path for path in _unused(repo) if age(path) >= days]
    except UserError as error:
        yield Leftover(".dvc/cache", 0, 0, str(error))
        return
    if old:
        why = "results that no commit, branch, tag or experiment refers to, nor the workspace"
        yield Leftover(".dvc/cache", len(old), size(old), why, partial(_remove, repo, old))


def _unused(repo: Repo) -> set[Path]:
    """The files of objects that are not in use.

    Raises:
        UserError: that cannot be told now.
    """
    root = Path(repo.root_dir)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # it warns of each commit that has no results
    try:
        if any(map(working, (root, *copies(root)))):
            raise LockError("a stage is running")
        with lock_repo(repo):
            stashed = [commit for reference in STASHES for commit, _ in reflog(root, reference)]
            # force: a folder whose list is not in the cache is passed over, since nothing could restore it.
            objects = repo.used_objs(revs=stashed, all_commits=True, all_experiments=True, force=True).values()
            used = {each.value for some in objects for each in some}
            used |= {md5 for outs in _run_cache(repo) if used & outs for md5 in outs}
            stores = {id(store): store for _, store in repo.cache.by_scheme() if store}.values()
            return {Path(store.oid_to_path(md5)) for store in stores for md5 in store.all() if md5 not in used}
    except LockError:
        raise UserError("DVC or a stage is running; clean again when it has ended") from None
    except DvcException as error:
        raise UserError(f"DVC cannot tell what is in use ({error}); see `dvc gc --dry`") from None


def _run_cache(repo: Repo) -> Iterator[set[str]]:
    """The MD5s of the outs of each stage that the run cache can restore."""
    for file in Path(repo.cache.local_cache_dir).glob("runs/*/*/*"):
        outs = (yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}).get("outs", [])
        yield {out["md5"] for out in outs if "md5" in out}


def _remove(repo: Repo, old: list[Path]) -> None:
    try:
        for path in _unused(repo).intersection(old):  # unless something refers to it by now
            path.unlink()
    except UserError as error:
        raise UserError(f".dvc/cache: {error}.") from None
