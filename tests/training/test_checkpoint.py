"""Checkpoints: what is saved comes back, what is damaged is passed over, and one training has one process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcgan.networks import Settings
from dcgan.system.errors import Interrupted
from dcgan.training.checkpoint import CheckpointStore, digest_of_start, fingerprint

SMALL = Settings(image_size=32, nz=8, ngf=4, ndf=4)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", "a" * 32)


def tensors(step: int) -> dict[str, Tensor]:
    """Of the kinds that a training saves, empty ones included."""
    random = torch.Generator().manual_seed(step)
    return {
        "generator.main.0.weight": torch.randn(4, 3, 4, 4, generator=random),
        "generator.main.1.num_batches_tracked": torch.tensor(step),
        "optimizer_g.0.exp_avg": torch.randn(7, generator=random).bfloat16(),
        "grids": torch.randint(0, 256, (2, 4, 4, 1), dtype=torch.uint8, generator=random),
        "history": torch.zeros(0, 6),
    }


def is_of(found: tuple[int, dict[str, Tensor]] | None, step: int) -> bool:
    if found is None or found[0] != step or set(found[1]) != set(tensors(step)):
        return False
    return all(
        torch.equal(found[1][name], tensor) and found[1][name].dtype == tensor.dtype
        for name, tensor in tensors(step).items()
    )


def files(store: CheckpointStore) -> list[Path]:
    return sorted(store.folder.iterdir())


# The fingerprint.


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=4), st.data())
def test_a_fingerprint_changes_with_any_part_and_not_with_their_order(
    parts: dict[str, object], data: st.DataObject
) -> None:
    known = fingerprint(parts)
    assert fingerprint(dict(reversed(parts.items()))) == known
    key = data.draw(st.sampled_from(sorted(parts)))
    changed = {**parts, key: [parts[key]]}
    assert fingerprint(changed) != known
    assert fingerprint({k: v for k, v in parts.items() if k != key}) != known
    assert len(known) == 32 and known.isalnum()


def test_a_fingerprint_tells_close_values_apart() -> None:
    values = [1, 1.5, "1", True, None, 2e-4, 2.0000000000000004e-4, [1], {"1": 1}]
    assert len({fingerprint({"lr": value}) for value in values}) == len(values)


# Saving and finding.


def test_there_is_nothing_before_the_first_save(store: CheckpointStore) -> None:
    assert store.latest() is None


def test_what_is_saved_comes_back(store: CheckpointStore) -> None:
    store.save(7, tensors(7))
    assert is_of(store.latest(), 7)
    assert is_of(CheckpointStore(store.root, store.folder.name).latest(), 7)
    assert CheckpointStore(store.root, "b" * 32).latest() is None


def test_the_newest_two_are_kept(store: CheckpointStore) -> None:
    for step in (1, 5, 10, 100, 99999):
        path = store.save(step, tensors(step))
        assert path.exists() and is_of(store.latest(), step)
    assert [int(path.name[:8]) for path in files(store)] == [100, 99999]


def test_the_same_state_twice_is_one_file(store: CheckpointStore) -> None:
    assert store.save(3, tensors(3)) == store.save(3, tensors(3))
    assert len(files(store)) == 1


def test_what_a_killed_process_left_behind_is_no_checkpoint(store: CheckpointStore) -> None:
    path = store.save(3, tensors(3))
    leftover = store.folder / f".{path.name.replace('00000003', '00000004')}.partial"
    leftover.write_bytes(path.read_bytes()[:50])
    assert is_of(store.latest(), 3)
    with store.locked():
        assert not leftover.exists() and path.exists()
    store.save(4, tensors(4))
    assert is_of(store.latest(), 4)


# Damage.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = pytest.mark.parametrize("damage", [flip, truncate, empty])


@DAMAGES
def test_a_damaged_checkpoint_is_passed_over_aloud(
    store: CheckpointStore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    store.save(1, tensors(1))
    newest = store.save(2, tensors(2))
    damage(newest)
    assert is_of(store.latest(), 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert newest.name in caplog.text and "damaged" in caplog.text


@DAMAGES
def test_where_all_are_damaged_there_is_none(store: CheckpointStore, damage: Callable[[Path], None]) -> None:
    for step in (1, 2):
        damage(store.save(step, tensors(step)))
    assert store.latest() is None


@DAMAGES
def test_saving_again_repairs_what_was_damaged(store: CheckpointStore, damage: Callable[[Path], None]) -> None:
    """A training that fell back comes to the same step with the same state."""
    store.save(1, tensors(1))
    damage(store.save(2, tensors(2)))
    assert is_of(store.latest(), 1)
    store.save(2, tensors(2))
    assert is_of(store.latest(), 2)


@DAMAGES
def test_damaged_checkpoints_do_not_push_out_good_ones(store: CheckpointStore, damage: Callable[[Path], None]) -> None:
    """A training that found nothing whole starts anew, at lower steps than those of the damaged files."""
    for step in (8, 9):
        damage(store.save(step, tensors(step)))
    assert store.latest() is None
    for step in (1, 2, 3):
        store.save(step, tensors(step))
        assert is_of(store.latest(), step)


# The end of a training.


def finished(store: CheckpointStore, name: str) -> CheckpointStore:
    other = CheckpointStore(store.root, name * 32)
    other.save(1, tensors(1))
    other.finish()
    return other


def test_finishing_removes_other_finished_trainings_and_keeps_the_own_checkpoint(store: CheckpointStore) -> None:
    before = finished(store, "b")
    store.save(5, tensors(5))
    store.finish()
    assert not before.folder.exists()
    assert is_of(store.latest(), 5)
    store.finish()
    assert is_of(store.latest(), 5)


def test_finishing_keeps_unfinished_trainings(store: CheckpointStore) -> None:
    interrupted = CheckpointStore(store.root, "b" * 32)
    interrupted.save(1, tensors(1))
    store.save(5, tensors(5))
    store.finish()
    assert is_of(interrupted.latest(), 1)


def test_finishing_keeps_a_finished_training_that_is_in_use(store: CheckpointStore) -> None:
    before = finished(store, "b")
    store.save(5, tensors(5))
    with CheckpointStore(store.root, before.folder.name).locked():
        store.finish()
        assert is_of(before.latest(), 1)
    store.finish()
    assert not before.folder.exists()


# One process at a time.

HOLD = """
import logging, sys
from pathlib import Path
from dcgan.training.checkpoint import CheckpointStore

logging.basicConfig(stream=sys.stdout, format="%(message)s")
root, name, note = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
with CheckpointStore(root, name).locked():
    print("locked", note.read_text() if note.exists() else "nothing", flush=True)
    sys.stdin.readline()
"""


def start(store: CheckpointStore, note: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock as soon as it gets it, until it is told."""
    arguments = [sys.executable, "-c", HOLD, str(store.root), store.folder.name, str(note)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_waits_for_the_first_and_says_so(store: CheckpointStore, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with store.locked():
        process = start(store, note)
        try:
            assert "waiting" in line(process)
            note.write_text("after the first")
        except BaseException:
            process.kill()
            raise
    assert line(process) == "locked after the first"
    process.communicate("\n")
    assert process.returncode == 0


def test_a_killed_process_holds_nothing(
    store: CheckpointStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = start(store, tmp_path / "note")
    assert line(process) == "locked nothing"
    process.kill()
    process.communicate()
    with store.locked():
        assert not caplog.records


def test_trainings_of_other_fingerprints_do_not_wait(store: CheckpointStore, caplog: pytest.LogCaptureFixture) -> None:
    with store.locked(), CheckpointStore(store.root, "b" * 32).locked():
        assert not caplog.records


def test_a_signal_ends_the_waiting(store: CheckpointStore) -> None:
    second = CheckpointStore(store.root, store.folder.name)
    with store.locked():
        with pytest.raises(Interrupted) as error, second.locked(lambda: signal.SIGTERM):
            pytest.fail("it did not wait")
        assert error.value.signal == signal.SIGTERM
    with second.locked():  # it is free again, and the second can still take it
        pass


def test_the_lock_is_released_when_the_training_fails(store: CheckpointStore, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ZeroDivisionError), store.locked():
        raise ZeroDivisionError
    with CheckpointStore(store.root, store.folder.name).locked():
        assert not caplog.records


# A checkpoint that cannot be gone on with.

PARTS: dict[str, Any] = {"params": {"lr": 0.1}, "data": "1" * 64, "code": "2" * 64, "threads": 2, "device": "cuda A"}


def saved(root: Path, step: int = 1, **changes: Any) -> CheckpointStore:
    parts = PARTS | changes
    store = CheckpointStore(root, fingerprint(parts), parts)
    if step:
        store.save(step, tensors(step))
    return store


def test_a_checkpoint_that_is_passed_over_is_named_with_what_differs(tmp_path: Path) -> None:
    before = saved(tmp_path, 7)
    now = saved(tmp_path, 0, threads=1, device="cuda B", code="3" * 64)
    assert now.passed_over() == (
        f"the training starts from scratch, not from step 7 in checkpoints/{before.folder.name}, since it differs: "
        "code; threads 2, then 1; device cuda A, then cuda B"
    )


def test_of_several_the_one_that_differs_least_is_named(tmp_path: Path) -> None:
    saved(tmp_path, 9, threads=3, data="4" * 64)
    nearest = saved(tmp_path, 5, threads=4)
    saved(tmp_path, 3, threads=5)
    said = saved(tmp_path, 0).passed_over()
    assert f"not from step 5 in checkpoints/{nearest.folder.name}" in said and said.endswith("threads 4, then 2")


def test_nothing_is_passed_over_where_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    saved(tmp_path, 7, params={"lr": 0.2})
    CheckpointStore(tmp_path, "a" * 32).save(1, tensors(1))  # of an older version, which kept no parts
    broken = saved(tmp_path, 2, threads=9)
    (broken.folder / "training.json").write_text("{")
    cleared = saved(tmp_path, 2, threads=8)
    cleared.clear()
    own = saved(tmp_path, 4)
    assert own.passed_over() == ""


def test_the_initial_weights_are_told_apart_by_what_decides_them() -> None:
    known = digest_of_start(SMALL, 1)
    assert digest_of_start(SMALL, 1) == known
    others = [digest_of_start(SMALL, 2), digest_of_start(replace(SMALL, ngf=8), 1)]
    assert len({known, *others}) == 3


def test_a_processor_that_draws_other_weights_is_told_apart() -> None:
    """By torch's own switch for the instructions that it uses."""
    code = (
        "import torch\nfrom dcgan.networks import Settings\nfrom dcgan.training.checkpoint import digest_of_start\n"
        "print(torch.randn(64, generator=torch.Generator().manual_seed(1)).sum().item(), "
        "digest_of_start(Settings(image_size=32, nz=8, ngf=4, ndf=4), 1))"
    )
    drawn = set()
    digests = set()
    for instructions in ("default", "avx2"):
        env = os.environ | {"ATEN_CPU_CAPABILITY": instructions}
        told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        normal, digest = told.stdout.split()
        drawn.add(normal)
        digests.add(digest)
    assert len(digests) == len(drawn)
