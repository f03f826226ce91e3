"""The runs in the spool, for `dcgan clean`: none of them is removed unless its store is named."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import filelock

from dcgan.system.errors import UserError
from dcgan.system.leftovers import Leftover, age, size
from dcgan.tracking.run_folder import OWN, SPOOL, over, remove, spool_of, waiting


def unlogged(root: Path, given_up: Collection[str]) -> Iterator[Leftover]:
    """The runs that no store has got completely, one entry for each store.

    Args:
        root: the project's root.
        given_up: names of folders in the spool, whose runs are to be removed.

    Raises:
        UserError: the spool has no such folder.
    """
    stores = {path.parent.parent.name: path.parent.parent for path in (root / SPOOL).glob("*/[0-9]*/run.json")}
    for name in given_up:
        if name not in stores:
            known = ", ".join(sorted(stores)) or "none"
            raise UserError(f"--give-up: no runs wait in {SPOOL}/{name}; these folders have some: {known}.")
    for name, spool in sorted(stores.items()):
        runs = waiting(spool)
        store = "this project's mlflow.db" if name == OWN else "another store"
        present = spool == spool_of(root)
        sync = "dcgan sync" if present else "unset MLFLOW_TRACKING_URI" if name == OWN else "set MLFLOW_TRACKING_URI"
        days = f"{min(map(age, runs)):.0f} days"
        about = f"{SPOOL}/{name}", len(runs), size(runs)
        if name in given_up:
            yield Leftover(*about, f"not logged to MLflow, unchanged for {days}", partial(_remove, spool))
        else:
            how = f"`{sync}`" if present else f"{sync} and run `dcgan sync`"
            yield Leftover(*about, f"wait for {store} for {days}; {how}, or remove them with --give-up {name}")


def _remove(spool: Path) -> None:
    try:
        with filelock.FileLock(spool / "sending.lock", timeout=0):
            for run in waiting(spool):
                if over(run):
                    remove(run)
                else:
                    raise UserError(f"{run}: a stage is still writing this run; it is kept.")
    except filelock.Timeout:
        raise UserError(f"{spool}: a process is logging these runs to MLflow; they are kept.") from None
