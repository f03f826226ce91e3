"""The bar on a real terminal of so many columns, and the lines elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from tqdm.utils import disp_len

NOTE = "Loss_D 0.291 Loss_G 5.444 D(x) 0.797 D(G(z)) 0.740 / 0.781"
WARNING = (
    "the generator has collapsed, which takes more than the eighty columns of this terminal to say, and is wrapped"
)
SCRIPT = f"""
import logging, warnings
from dcgan.system import progress
progress.log_above_the_bar()
for number in progress.progress(range(6000), 6000, "training", "steps", 0, lambda: "{NOTE}"):
    if number == 3000:
        logging.getLogger("dcgan").warning("{WARNING}")
    if number == 4000:
        warnings.warn("of Python")
"""


def on_a_terminal(columns: int) -> str:
    """What the script writes on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written = b""
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            while read := os.read(ours, 65536):
                written += read
        except OSError:  # Linux's way to say that the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("columns", "note"), [(60, "Loss_D 0.291"), (80, "Loss_D 0.291 Loss_G 5.444 D(x) 0.797"), (140, NOTE)]
)
def test_the_bar_fits_the_terminal_and_cuts_no_number(columns: int, note: str) -> None:
    shown = [text for line in on_a_terminal(columns).split("\n") for text in line.split("\r") if "6000" in text]
    assert len(shown) > 1 and max(map(disp_len, shown)) <= columns
    assert shown[-1].rstrip("]").endswith(f" {note}") and "6000/6000" in shown[-1]


def test_a_warning_leaves_the_bar_whole() -> None:
    lines = on_a_terminal(80).split("\n")
    (told,) = (line for line in lines if WARNING in line)
    assert told.endswith(f"\r\x1b[KWARNING: {WARNING}")  # on a line that the bar has left
    assert any(line.endswith("UserWarning: of Python") for line in lines)
    bars = [text for line in lines for text in line.split("\r") if "|" in text]
    assert all(text.startswith("training ") and "WARNING" not in text for text in bars)


def test_elsewhere_there_are_lines_without_control_characters() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert "\r" not in result.stderr and "\x1b" not in result.stderr and result.stdout == ""
    assert f"WARNING: {WARNING}\n" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("training: 6000 of 6000 steps, ")
