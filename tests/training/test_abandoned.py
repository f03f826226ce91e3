"""Which checkpoints `dcgan clean` removes: old ones, of no training that runs or that something would go on with."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from dcgan.system.errors import UserError
from dcgan.system.leftovers import Leftover
from dcgan.training.abandoned import checkpoints
from dcgan.training.checkpoint import CheckpointStore


def interrupted(root: Path, letter: str, days: float) -> CheckpointStore:
    """A training that was interrupted so long ago, after its seventh step."""
    store = CheckpointStore(root, letter * 32)
    with store.locked():
        store.save(7, {"history": torch.zeros(7, 6)})
    aged(store.folder, days)
    return store


def aged(folder: Path, days: float) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - days * 86400,) * 2)


def found(root: Path, wanted: str = "") -> dict[str, Leftover]:
    """What is found, by the first letter of its fingerprint; `wanted` is such a letter."""
    leftovers = checkpoints(
        root, 30, lambda fingerprint: "params.yaml" if fingerprint[0] == wanted else "", lambda _: "; resumed so"
    )
    return {leftover.where.removeprefix("checkpoints/")[0]: leftover for leftover in leftovers}


def test_an_old_training_that_nothing_asks_for_is_removed_and_no_other(tmp_path: Path) -> None:
    for letter, days in (("a", 31.0), ("b", 29.0), ("c", 31.0), ("d", 31.0)):
        interrupted(tmp_path, letter, days)
    with CheckpointStore(tmp_path, "d" * 32).locked():  # as the process of a training that is slow to save
        of = found(tmp_path, wanted="c")
    assert [letter for letter, leftover in of.items() if leftover.remove] == ["a"]
    assert of["a"].why == "interrupted after step 7, 31 days ago; resumed so" and of["a"].size > 7 * 6 * 4
    assert of["b"].why == "interrupted after step 7, 29 days ago; resumed so"
    assert "params.yaml has its settings" in of["c"].why and "a process is running" in of["d"].why
    assert of["a"].remove
    of["a"].remove()
    assert sorted(path.name[0] for path in tmp_path.iterdir() if path.is_dir()) == ["b", "c", "d"]


def test_a_training_that_has_gone_on_since_it_was_listed_is_kept(tmp_path: Path) -> None:
    store = interrupted(tmp_path, "a", 31)
    remove = found(tmp_path)["a"].remove
    assert remove
    with store.locked():
        with pytest.raises(UserError, match="just started this training; it is kept"):
            remove()
        store.save(8, {"history": torch.zeros(8, 6)})
    remove()
    assert store.latest()


def test_a_finished_training_is_named_so(tmp_path: Path) -> None:
    store = interrupted(tmp_path, "a", 31)
    store.finish()
    aged(store.folder, 40)
    assert found(tmp_path)["a"].why.startswith("finished, 40 days ago")
