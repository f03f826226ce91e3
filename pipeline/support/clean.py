"""Lists what nothing refers to any more, and removes it if asked.

This is not a stage; `python -m dcgan clean` runs it as `python -m pipeline.support.clean DAYS list|remove [STORE ...]`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

from dcgan.schema import Section
from dcgan.system.errors import UserError
from dcgan.system.leftovers import Leftover, in_bytes, table
from dcgan.tracking.deleted import deleted
from dcgan.tracking.trainings import known_trainings
from dcgan.tracking.unlogged import unlogged
from dcgan.training import abandoned
from pipeline.support.dvc_working import abandoned_copies, temporary_files
from pipeline.support.old_lists import old_lists
from pipeline.support.resumable import how_to_resume, seekers
from pipeline.support.stage import MAIN_ROOT, run
from pipeline.support.unused_cache import unused_cache


def main(params: Section) -> None:
    days, to_remove, given_up = float(sys.argv[1]), sys.argv[2] == "remove", sys.argv[3:]
    found = list(_leftovers(days, given_up))
    unneeded, kept = [each for each in found if each.remove], [each for each in found if not each.remove]
    if unneeded:
        print("Nothing refers to these any more:", table(unneeded), sep="\n")
    if kept:
        print(f"Kept, since something needs them or they are less than {days:g} days old:", table(kept), sep="\n")
    total = in_bytes(sum(each.size for each in unneeded))
    if not to_remove:
        print(f"`dcgan clean --remove` frees {total}." if unneeded else "There is nothing to remove.")
        return
    failures = [str(error) for each in unneeded if (error := _removed(each))]
    if failures:
        raise UserError("\n".join(failures))
    print(f"Removed {total}.")


def _leftovers(days: float, given_up: list[str]) -> Iterator[Leftover]:
    store = MAIN_ROOT / "checkpoints"
    known, unknown = known_trainings(MAIN_ROOT, abandoned.trainings(store))
    if unknown:
        print(f"checkpoints: all are kept, since their settings are not known: {unknown}", file=sys.stderr)
    wanted = seekers(MAIN_ROOT)
    yield from abandoned.checkpoints(
        store,
        math.inf if unknown else days,
        lambda id: wanted(known.get(id)),
        lambda id: how_to_resume(MAIN_ROOT, known.get(id)),
    )
    yield from unlogged(MAIN_ROOT, given_up)
    yield from deleted(MAIN_ROOT, days)
    yield from unused_cache(MAIN_ROOT, days)
    yield from abandoned_copies(MAIN_ROOT, days)
    yield from old_lists(MAIN_ROOT, days)
    yield from temporary_files(MAIN_ROOT, days)


def _removed(leftover: Leftover) -> UserError | None:
    assert leftover.remove
    try:
        leftover.remove()
        return None
    except UserError as error:
        return error


if __name__ == "__main__":
    run(Section, main)
