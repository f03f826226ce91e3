"""Lets the outs of a stage appear together, unless an input changed while the stage was running."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcgan.system.errors import UserError
from dcgan.system.files import remove, together, write_json
from pipeline.support import lineage
from pipeline.support.changes import first_change
from pipeline.support.dvc_files import ROOT, outs_of
from pipeline.support.inputs import RANK_FILE, STAGE, TAKEN


def changed() -> str | None:
    """The input of the running stage that differs from what the stage took in, and how to go on; None if none does."""
    if TAKEN is None or not (change := first_change(TAKEN)):
        return None
    remedy = change.remedy + ("; the checkpoint of the training without it is kept" if STAGE == "train" else "")
    return f"{change} while the stage {STAGE} was running, so that its result is discarded; {remedy}."


def check_unchanged() -> None:
    """Compares the inputs of the running stage with those that it took in at its start.

    Raises:
        UserError: one has changed.
    """
    if sentence := changed():
        raise UserError(sentence)


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


def end_if_unchanged() -> None:
    """Ends the process of a stage with status 0, or removes its outs if an input has changed since they appeared.

    The interpreter's own exit takes up to half a second, in which a change would not be noticed any more.

    Raises:
        UserError: an input has changed.
    """
    if TAKEN is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        check_unchanged()
    except UserError:
        for out in outs_of(TAKEN.stage):
            remove(ROOT / out)
        raise
    if RANK_FILE:
        RANK_FILE.with_name("finished").touch()
    os._exit(0)
