"""Lets the outs of a stage appear together, unless an input changed while the stage was running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcgan.system.errors import UserError
from dcgan.system.files import remove, together, write_json
from pipeline.support import lineage
from pipeline.support.changes import first_change
from pipeline.support.dvc_files import ROOT, outs_of
from pipeline.support.inputs import TAKEN


def check_unchanged() -> None:
    """Compares the inputs of the running stage with those that it took in at its start.

    Raises:
        UserError: one has changed.
    """
    if TAKEN and (change := first_change(TAKEN)):
        kept = "; the checkpoint of the training without it is kept" if TAKEN.stage == "train" else ""
        raise UserError(
            f"{change} while the stage {TAKEN.stage} was running, so that its result is discarded; "
            f"{change.remedy}{kept}."
        )


@contextmanager
def outs() -> Iterator[Callable[[Path], Path]]:
    """Yields a function from the path of an out to a temporary path, where the block writes the out.

    All outs appear at the end of the block, with the lineage of the stage.

    Raises:
        UserError: an input has changed; no out appears.
    """
    with together() as new:
        yield new
        check_unchanged()
        if TAKEN:
            write_json(new(lineage.path(TAKEN.stage)), lineage.describe(TAKEN))


def withdraw_if_changed() -> None:
    """Removes the outs if an input has changed since they appeared; called at the very end of a stage.

    Raises:
        UserError: an input has changed.
    """
    try:
        check_unchanged()
    except UserError:
        for out in outs_of(TAKEN.stage) if TAKEN else ():
            remove(ROOT / out)
        raise
