"""The command `dcgan`: each help says what to type, and what it says can be typed."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from project import ROOT, Project

from dcgan import params
from dcgan.__main__ import main, parser

COMMANDS = (
    "check",
    "preset",
    "data",
    "generate",
    "faces",
    "sync",
    "runs",
    "reproduce",
    "compare",
    "ui",
    "explore",
    "distance",
    "clean",
    "import",
    "export",
)


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `dcgan COMMAND --help` prints."""
    monkeypatch.setenv("COLUMNS", "100")

    def help_of(*command: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*command, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return help_of


def test_the_help_lists_every_command(help_of: Callable[..., str]) -> None:
    assert tuple(re.findall(r"(?m)^    (\w+)", help_of())) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_gives_an_example_that_can_be_typed(command: str, help_of: Callable[..., str]) -> None:
    words = shlex.split(help_of(command).partition("example:\n")[2])
    words = words[words.index("dcgan") + 1 :]
    words = words[: words.index("&&")] if "&&" in words else words
    assert parser().parse_args(words).command == command


def test_the_help_of_preset_lists_the_presets_and_what_they_are(help_of: Callable[..., str]) -> None:
    text = " ".join(help_of("preset").split())
    for name, what in params.describe_presets(ROOT / "presets").items():
        assert len(what) > 20 and f"{name} {what}" in text


def test_outside_of_a_project_the_help_of_preset_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, help_of: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "change into the project's folder" in help_of("preset")


def test_the_installed_command_tells_its_version_and_checks() -> None:
    command = str(Path(sys.executable).parent / "dcgan")
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"dcgan {importlib.metadata.version('dcgan')}\n"
    subprocess.run([command, "check"], cwd=ROOT, check=True)


def test_gpus_that_are_not_there_are_refused_before_a_stage_runs(tmp_path: Path) -> None:
    """Unless a launcher starts the ranks elsewhere, as from a login node."""
    project = Project.create(tmp_path / "dcgan")
    check = (sys.executable, "-m", "dcgan", "check")
    project.env["CUDA_VISIBLE_DEVICES"] = "-1"
    for ngpu in ("0", "auto"):
        project.set(("ngpu", ngpu))
        assert project.run(*check).returncode == 0
    project.set(("ngpu", "1"))
    result = project.run(*check)
    assert result.returncode == 1 and result.stdout.startswith("ngpu: 1 requires a CUDA GPU, but torch sees none here;")
    assert result.stdout.count("\n") == 1
    assert project.run(*check, DCGAN_LAUNCHER="srun").returncode == 0


def test_without_a_command_the_usage_is_printed() -> None:
    result = subprocess.run([sys.executable, "-m", "dcgan"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "COMMAND" in result.stderr


def test_a_port_that_is_taken_is_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "dcgan", "ui", "--port", str(port)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith(f"port {port}: it is in use")
    assert "make ui PORT=" in result.stderr and result.stderr.count("\n") == 1
