"""A run's folder: what is written whole is read once, whatever else happens to it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from project import ROOT

from dcgan.tracking.run_folder import METRICS, append, line, points


@given(st.lists(st.one_of(st.integers(1, 3), st.text("{}:,1 ", max_size=5), st.just("read")), max_size=12))
def test_each_line_is_read_once_in_its_turn_whatever_a_full_disk_cut_off(happens: list[int | str]) -> None:
    """So many lines are written, or a part of one, or what is there by now is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / METRICS
        written, read, start = 0, [], 0
        for what in [*happens, "read"]:
            if what == "read":
                found, start = points(path, start)
                read += found
            elif isinstance(what, int):
                append(path, [line(written + number, {"loss": 0.5}) for number in range(what)])
                written += what
            else:
                with path.open("a") as file:
                    file.write(what)
        assert [(step, values) for _, step, values in read] == [(step, {"loss": 0.5}) for step in range(written)]


def test_what_is_read_while_another_process_writes_is_whole(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    code = (
        "import sys, pathlib; from dcgan.tracking.run_folder import append, line\n"
        "for step in range(2000):\n"
        "    append(pathlib.Path(sys.argv[1]), [line(step, dict.fromkeys('abcdefgh', 1 / 3))])\n"
    )
    environment = {"PYTHONPATH": str(ROOT / "src")}
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment)
    read: list[int] = []
    start = 0
    while writer.poll() is None or len(read) < 2000:
        found, start = points(path, start)
        assert all(values == dict.fromkeys("abcdefgh", 1 / 3) for _, _, values in found)
        read += [step for _, step, _ in found]
    assert writer.returncode == 0 and read == list(range(2000))
