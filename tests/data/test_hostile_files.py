"""Mutated pictures and archives: each becomes a face or is named, in limited memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostile import MUTATED, outcome
from hypothesis import given, settings
from mutations import Change


@settings(deadline=None, max_examples=150)
@given(MUTATED)
def test_mutated_files_become_a_face_or_a_reason_and_nothing_else(mutated: tuple[str, list[Change]]) -> None:
    assert outcome(*mutated)


@pytest.mark.long
def test_hundreds_of_them_need_little_memory() -> None:
    program = Path(__file__).parents[1] / "helpers/hostile.py"
    done = subprocess.run([sys.executable, str(program), "500", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "tried" in done.stdout
