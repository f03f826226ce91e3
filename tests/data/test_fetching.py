"""Fetching, from a stand-in on loopback: each fault is survived or named, and a file is complete or absent."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from project import ROOT
from standin import Fault, StandIn

from dcgan.data import fetching
from dcgan.data.fetching import File, Patience, fetch
from dcgan.system.errors import UserError

CONTENT = random.Random(0).randbytes(2_000_001)
HOME = "https://example.org/home"
FAULTS = [fault for fault in get_args(Fault) if fault != "none"]


@pytest.fixture
def server() -> Iterator[StandIn]:
    server = StandIn({"data.zip": CONTENT})
    yield server
    server.close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def patience(waits: list[float]) -> Patience:
    """Notes what would have been waited, and waits no second."""
    return Patience(timeout=0.3, pause=waits.append)


def data(*urls: str, content: bytes = CONTENT) -> File:
    return File("data.zip", len(content), hashlib.md5(content).hexdigest(), urls)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_fetched(folder: Path) -> None:
    assert (folder / "data.zip").read_bytes() == CONTENT
    assert [name for name in names(folder) if not name.endswith("lock")] == ["data.zip"]


def assert_gone_on(server: StandIn, lost: int = 1 << 16) -> None:
    """The last request was for what was missing after half of the file, but for a piece that was on the way."""
    assert len(CONTENT) // 2 - lost <= (server.requests[-1].begin or 0) <= len(CONTENT) // 2


def test_a_file_is_fetched_once(server: StandIn, tmp_path: Path) -> None:
    for _ in range(2):
        fetch([data(f"{server.url}/a/data.zip")], tmp_path, HOME)
    assert_fetched(tmp_path)
    assert len(server.requests) == 1


def test_a_folder_that_has_everything_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(CONTENT)
    fetch([data("http://nowhere.invalid/data.zip")], tmp_path, HOME)
    assert names(tmp_path) == ["data.zip"]


def test_another_range_than_was_asked_for_is_not_appended(server: StandIn, tmp_path: Path, patience: Patience) -> None:
    server.faults = ["cut", "other range"]
    fetch([data(f"{server.url}/first/data.zip", f"{server.url}/second/data.zip")], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    assert_gone_on(server)


def test_two_processes_fetch_a_file_once(server: StandIn, tmp_path: Path) -> None:
    file = data(f"{server.url}/data.zip")
    command = [sys.executable, "-c", FETCH, str(tmp_path), str(file.size), file.digest, *file.urls]
    children = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert_fetched(tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_survived(
    server: StandIn, tmp_path: Path, patience: Patience, waits: list[float], fault: Fault
) -> None:
    server.faults = [fault]
    fetch([data(f"{server.url}/first/data.zip", f"{server.url}/second/data.zip")], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    paths = [request.path.split("/")[1] for request in server.requests]
    if fault in ("no ranges", "other range"):  # nothing was asked for but the whole
        assert paths == ["first"]
    elif fault in ("429", "500", "cut", "stall", "no ranges and cut"):  # the same place is asked again
        assert paths == ["first", "first"] and waits == [1]
    else:
        assert paths == ["first", "second"] and waits == []
    if fault in ("cut", "stall"):
        assert_gone_on(server)


WORDS = {
    "quota": "web page titled “Google Drive - Quota exceeded”",
    "403": "HTTP 403 Forbidden",
    "404": "HTTP 404 Not Found",
    "429": "HTTP 429 Too Many Requests",
    "500": "HTTP 500 Internal Server Error",
    "cut": "the connection was cut",
    "wrong": "its MD5 is",
    "short": "a file of 1,500,000 bytes, not of 2,000,001",
    "stall": "it sent nothing for 0.3 s",
    "endless": "it sends more than 2,000,001 bytes",
    "page without a type": "web page titled “Google Drive - Quota exceeded”",
    "no number": "its response or its address is invalid",
    "no ranges and cut": "the connection was cut",
    "page": "web page titled “Welcome”",
    "asks again": "it answers with a web page",
}


@pytest.mark.parametrize("fault", sorted(WORDS))
def test_a_fault_that_stays_is_named_and_leaves_no_file(
    server: StandIn, tmp_path: Path, patience: Patience, fault: Fault
) -> None:
    server.always = fault
    urls = (f"{server.url}/first/data.zip", f"{server.url}/second/data.zip")
    with pytest.raises(UserError) as error:
        fetch([data(*urls)], tmp_path, HOME, patience)
    message = str(error.value)
    for word in (*urls, WORDS[fault], HOME, str(tmp_path), f"data.zip (2,000,001 bytes, MD5 {data().digest})"):
        assert word in message
    assert "Traceback" not in message and " at 0x" not in message
    assert "data.zip" not in names(tmp_path)
    # What was right is kept, what was wrong is not.
    kept = [path.read_bytes() for path in (tmp_path / ".partial").iterdir() if path.name != "lock"]
    assert all(CONTENT.startswith(content) for content in kept)
    server.always = "none"
    fetch([data(*urls)], tmp_path, HOME, patience)
    assert_fetched(tmp_path)


def test_waiting_grows_between_attempts(
    server: StandIn, tmp_path: Path, patience: Patience, waits: list[float]
) -> None:
    server.always = "500"
    with pytest.raises(UserError, match="5 attempts"):
        fetch([data(f"{server.url}/data.zip")], tmp_path, HOME, patience)
    assert waits == [1, 2, 4, 8] and len(server.requests) == 5


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(st.sampled_from(["429", "500", "cut", "stall", "no ranges"]), max_size=4), begin=st.integers(0))
def test_any_four_faults_that_pass_are_survived(
    server: StandIn, tmp_path_factory: pytest.TempPathFactory, faults: list[Fault], begin: int
) -> None:
    folder = tmp_path_factory.mktemp("downloads")
    begin %= len(CONTENT) + 1
    (folder / ".partial").mkdir()
    (folder / ".partial" / "data.zip.partial.part").write_bytes(CONTENT[:begin])
    server.faults = list(faults)
    fetch([data(f"{server.url}/data.zip")], folder, HOME, Patience(0.05, lambda seconds: None))
    assert_fetched(folder)


@pytest.mark.parametrize("fault", ["quota", "page without a type", "no number", "404", "other range", "endless"])
def test_what_is_sent_instead_on_resuming_does_not_cost_what_was_fetched(
    server: StandIn, tmp_path: Path, patience: Patience, fault: Fault
) -> None:
    server.faults = ["cut", fault]
    with pytest.raises(UserError):
        fetch([data(f"{server.url}/data.zip")], tmp_path, HOME, patience)
    fetch([data(f"{server.url}/data.zip")], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    assert_gone_on(server)


def test_a_server_without_ranges_does_not_cost_what_was_fetched(
    server: StandIn, tmp_path: Path, patience: Patience
) -> None:
    beginning = tmp_path / ".partial" / "data.zip.partial.part"
    beginning.parent.mkdir()
    beginning.write_bytes(CONTENT[:1_900_000])
    server.faults = ["no ranges and cut", "404"]
    with pytest.raises(UserError, match="404"):
        fetch([data(f"{server.url}/data.zip")], tmp_path, HOME, patience)
    assert beginning.read_bytes() == CONTENT[:1_900_000]
    server.faults = ["no ranges"]
    fetch([data(f"{server.url}/data.zip")], tmp_path, HOME, patience)
    assert_fetched(tmp_path)


def test_a_wrong_beginning_is_thrown_away_and_fetched_anew(server: StandIn, tmp_path: Path, patience: Patience) -> None:
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "data.zip.partial.part").write_bytes(b"x" * 1000)
    fetch([data(f"{server.url}/data.zip")], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    assert [request.begin for request in server.requests] == [1000, None]


def test_a_complete_beginning_is_not_fetched_again(server: StandIn, tmp_path: Path) -> None:
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "data.zip.partial.part").write_bytes(CONTENT)
    fetch([data(f"{server.url}/data.zip")], tmp_path, HOME)
    assert_fetched(tmp_path)
    assert not server.requests


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (CONTENT[:-1], "2,000,000 bytes, not 2,000,001"),
        (CONTENT[:-1] + b"?", "its MD5 is"),
        (b"<!doctype html><title>Quota</title>", "a web page titled “Quota”"),
        (b"", "0 bytes"),
    ],
)
def test_a_wrong_file_of_the_users_is_named_and_left_alone(
    server: StandIn, tmp_path: Path, content: bytes, word: str
) -> None:
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(UserError, match=word) as error:
        fetch([data(f"{server.url}/data.zip")], tmp_path, HOME)
    assert str(tmp_path / "data.zip") in str(error.value) and len(str(error.value).splitlines()) == 1
    assert (tmp_path / "data.zip").read_bytes() == content and not server.requests


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(server: StandIn, tmp_path: Path) -> None:
    huge = File("data.zip", 10**15, "0" * 32, (f"{server.url}/data.zip",))
    with pytest.raises(UserError, match=r"1000000\.00 GB must be fetched, but .* GB are free"):
        fetch([huge], tmp_path, HOME)
    assert not server.requests


def test_no_server_is_one_sentence_each(tmp_path: Path, patience: Patience) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match="it refuses the connection"):
        fetch([data(f"http://127.0.0.1:{port}/data.zip")], tmp_path, HOME, patience)
    with pytest.raises(UserError, match="its name cannot be resolved; check the network"):
        fetch([data("http://nowhere.invalid/data.zip")], tmp_path, HOME, patience)
    with pytest.raises(UserError, match="its response or its address is invalid"):
        fetch([data("my mirror/data.zip")], tmp_path, HOME, patience)
    assert names(tmp_path) == [".partial/lock"]


def test_a_server_that_cannot_prove_its_name_is_not_trusted(
    server: StandIn, tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(UserError, match="its certificate cannot be verified"):
        fetch([data("https://mirror.example.org/data.zip")], tmp_path, HOME, patience)


def test_a_mirrors_secret_is_not_shown(
    server: StandIn, tmp_path: Path, patience: Patience, capsys: pytest.CaptureFixture[str]
) -> None:
    server.always = "500"
    url = server.url.replace("://", "://me:hush@") + "/data.zip?token=xyzzy"
    with pytest.raises(UserError) as error:
        fetch([data(url)], tmp_path, HOME, patience)
    shown = str(error.value) + "".join(capsys.readouterr())
    assert "127.0.0.1" in shown and "hush" not in shown and "xyzzy" not in shown


def test_progress_says_how_far_how_fast_and_how_long(
    server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch([data(f"{server.url}/data.zip")], tmp_path, HOME)
    assert "data.zip: 2.0 of 2.0 MB" in capsys.readouterr().err


# Google Drive, by gdown as it is: every HTTPS request goes through the stand-in.


@pytest.fixture
def drive(server: StandIn, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name, value in server.as_proxy(tmp_path_factory.mktemp("proxy")).items():
        monkeypatch.setenv(name, value)
        monkeypatch.delenv(name.lower(), raising=False)
    return server


DRIVE_URL = f"{fetching.DRIVE}data.zip"


def test_drives_confirmation_page_is_passed(drive: StandIn, tmp_path: Path, patience: Patience) -> None:
    fetch([data(DRIVE_URL)], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    assert [request.host for request in drive.requests] == ["drive.google.com", "drive.usercontent.google.com"]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_drives_transfer_goes_on_where_it_stopped(
    drive: StandIn, tmp_path: Path, patience: Patience, fault: Fault
) -> None:
    drive.faults = ["none", fault]
    fetch([data(DRIVE_URL)], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    assert_gone_on(drive, 1 << 19)


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (["quota"], "Google Drive says: Too many users have viewed or downloaded this file recently."),
        (["404"], "Google Drive says: Cannot retrieve the public link of the file."),
        (["none", "short"], "a file of 1,500,000 bytes, not of 2,000,001"),
        (["none", "endless"], "bytes, not of 2,000,001"),
        (["none", "wrong"], "its MD5 is"),
    ],
)
def test_what_drive_refuses_is_named_and_the_next_place_is_asked(
    drive: StandIn,
    tmp_path: Path,
    faults: list[Fault],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drive.faults = list(faults)
    fetch(
        [data(DRIVE_URL, "https://mirror.example.org/celeba/data.zip")],
        tmp_path,
        HOME,
        Patience(10, lambda seconds: None),
    )  # nothing stalls
    assert_fetched(tmp_path)
    assert words in capsys.readouterr().err and drive.requests[-1].host == "mirror.example.org"


def test_drive_that_asks_for_confirmation_without_end_is_given_up(drive: StandIn, tmp_path: Path) -> None:
    drive.always = "asks again"
    with pytest.raises(UserError, match=r"it sent nothing of the file for 0\.5 s"):
        fetch([data(DRIVE_URL)], tmp_path, HOME, Patience(0.05, lambda seconds: None))
    assert len(drive.requests) > 2 and names(tmp_path) == [".partial/lock"]


def test_a_mirror_goes_on_with_what_drive_began(drive: StandIn, tmp_path: Path, patience: Patience) -> None:
    drive.faults = ["none", "cut", "quota"]
    fetch([data(DRIVE_URL, "https://mirror.example.org/data.zip")], tmp_path, HOME, patience)
    assert_fetched(tmp_path)
    assert_gone_on(drive, 1 << 19)


# Killed.

FETCH = """
import sys
from pathlib import Path
from dcgan.data.fetching import File, fetch
fetch([File("data.zip", int(sys.argv[2]), sys.argv[3], (sys.argv[4],))], Path(sys.argv[1]), "home")
"""


def test_killed_at_ten_random_moments_it_ends_in_the_same_bytes(server: StandIn, tmp_path: Path) -> None:
    server.files["data.zip"] = content = CONTENT * 15
    file = data(f"{server.url}/data.zip", content=content)
    command = [sys.executable, "-c", FETCH, str(tmp_path), str(file.size), file.digest, *file.urls]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for moment in random.Random(1).sample(range(1, len(content) // 10), 10):
        server.sent = 0
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

        def kill(sent: int, moment: int = moment, child: subprocess.Popen[bytes] = child) -> None:
            if sent >= moment:
                child.send_signal(signal.SIGKILL)

        server.on_sent = kill
        assert child.wait() == -signal.SIGKILL
        assert not (tmp_path / "data.zip").exists()
    server.on_sent = lambda sent: None
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "data.zip").read_bytes() == content
    begins = [request.begin or 0 for request in server.requests]
    assert begins == sorted(begins) and begins[-1] > 0  # nothing that was there was fetched again
