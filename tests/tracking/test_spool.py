"""The spool: nothing that is put in is lost, whatever fails and whoever else writes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import ROOT

from dcgan.tracking.spool import Event, Spool


class Refused(Exception):
    pass


def drained(spool: Spool) -> list[Event]:
    found: list[Event] = []

    def send(events: Sequence[Event]) -> int:
        found.append(events[0])
        return 1

    spool.drain(send)
    return found


def test_events_come_out_in_their_order_with_their_files(tmp_path: Path) -> None:
    spool, picture = Spool(tmp_path / "spool"), tmp_path / "picture.png"
    picture.write_bytes(b"as it is now")
    spool.append({"number": 1}, {"a": picture, "b": b"bytes"})
    spool.append({"number": 2})
    picture.unlink()
    contents: list[bytes] = []

    def send(events: Sequence[Event]) -> int:
        contents.extend(spool.file(name).read_bytes() for name in events[0].get("files", {}).values())
        return 1

    assert len(spool) == 2
    spool.drain(send)
    assert contents == [b"as it is now", b"bytes"]
    assert len(spool) == 0 and list((tmp_path / "spool" / "files").iterdir()) == []


def test_an_empty_spool_is_no_folder(tmp_path: Path) -> None:
    assert drained(Spool(tmp_path / "spool")) == [] and not (tmp_path / "spool").exists()


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.sets(st.integers(0, 30)))
def test_whatever_fails_each_event_is_sent_and_none_before_its_turn(groups: list[int], failing: set[int]) -> None:
    """`failing` are the calls that raise; afterwards the spool is drained anew."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool")
        for number in range(sum(groups)):
            spool.append({"number": number}, {"file": str(number).encode()})
        sent: list[int] = []
        calls = 0

        def send(events: Sequence[Event]) -> int:
            nonlocal calls
            calls += 1
            if calls in failing:
                raise Refused
            taken = events[: groups[calls % len(groups)]]
            for event in taken:
                assert spool.file(event["files"]["file"]).read_bytes() == str(event["number"]).encode()
                sent.append(event["number"])
            return len(taken)

        while len(spool):
            try:
                spool.drain(send)
            except Refused:
                continue
        assert sent == list(range(sum(groups)))


def test_what_a_failing_sender_leaves_stays_with_its_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"number": 1}, {"file": b"one"})
    spool.append({"number": 2}, {"file": b"two"})

    def send(events: Sequence[Event]) -> int:
        if events[0]["number"] == 2:
            raise Refused
        return 1

    with pytest.raises(Refused):
        spool.drain(send)
    (left,) = drained(spool)
    assert left["number"] == 2


def test_the_line_that_a_killed_process_did_not_end_is_no_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"number": 1})
    with spool.path.open("a") as file:
        file.write('{"number": 2, "na')
    spool.append({"number": 3})
    assert len(spool) == 2
    assert [event["number"] for event in drained(spool)] == [1, 3]


def test_processes_that_write_and_send_at_the_same_time_lose_and_double_nothing(tmp_path: Path) -> None:
    code = """
import sys, pathlib
from dcgan.tracking.spool import Spool
spool, me = Spool(pathlib.Path(sys.argv[1])), sys.argv[2]
def send(events):
    print(events[0]["id"])
    return 1
for number in range(40):
    spool.append({"id": f"{me} {number}"}, {"file": b"content"})
    if number % 5 == 0:
        spool.drain(send)
spool.drain(send)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT / "src")}
    started = [
        subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    lines: list[str] = []
    for process in started:
        out, _ = process.communicate()
        assert process.returncode == 0
        lines += out.splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in ("a", "b", "c") for number in range(40))
    assert len(Spool(tmp_path)) == 0
