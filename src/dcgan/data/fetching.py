"""Files fetched from the network: resumed where they stopped, verified by hash, and either complete or absent.

Google Drive is left to gdown, which knows its confirmation pages. Other servers get a plain request, whose answer is
looked at before it is added to what is there already: a web page, another range, another length.
"""

from __future__ import annotations

import contextlib
import hashlib
import http
import itertools
import os
import re
import shutil
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import gdown
import requests
import urllib3

from dcgan.system.errors import UserError
from dcgan.system.progress import say, transfer

DRIVE = "https://drive.google.com/uc?id="
ATTEMPTS = 5  # at one address, with 1, 2, 4 and 8 seconds between them
_PAGE = re.compile(rb"(\xef\xbb\xbf)?(\s|<!--.*?-->)*<(!doctype html|html|head)", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(rb"<title>\s*([^<]*?)\s*</title>", re.IGNORECASE)
_BLOCK = 1 << 16  # bytes; what a cut connection costs at most


class File(NamedTuple):
    """A file as its authors published it."""

    name: str
    size: int  # bytes
    digest: str  # MD5 or SHA-256 in hexadecimal, told apart by their lengths
    urls: tuple[str, ...]  # tried in this order


class NotTheFile(Exception):
    """An address answers with something else; to ask it again would be of no use."""


class TransientError(Exception):
    """A transfer ended in a way that may pass."""


class Patience(NamedTuple):
    """How long is waited for a server."""

    timeout: float = 30  # seconds without an answer or a byte
    pause: Callable[[float], None] = time.sleep  # called with the seconds before the next attempt


PATIENT = Patience()


def fetch(files: Sequence[File], folder: Path, home: str, patience: Patience = PATIENT) -> None:
    """Brings `files` into `folder`; those that are there already are only verified.

    What a killed process had fetched lies in `folder`/.partial and is gone on from.

    Args:
        home: where the authors publish the files, for the message.

    Raises:
        UserError: a file in `folder` is not the published one, the disk is too small, or all sources of a file fail;
            then the message lists what was tried, why it failed, and what to put where by hand.
    """
    missing = []
    for file in files:
        path = folder / file.name
        if not path.exists():
            missing.append(file)
        elif problem := mismatch(path, file):
            raise UserError(f"{path}: {problem}; it is damaged or another file, so remove or replace it.")
    if not missing:
        return
    partial = folder / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    with _alone(partial):
        missing = [file for file in missing if not (folder / file.name).exists()]
        _check_disk(missing, partial)
        for file in sorted(missing, key=lambda file: file.size):  # so that what fails, fails soon
            failures = _fetch_one(file, folder, partial, patience)
            if failures is not None:
                absent = [f for f in missing if not (folder / f.name).is_file()]
                raise UserError(_explanation(file, failures, absent, folder, home))


def _alone(partial: Path) -> contextlib.AbstractContextManager[object]:
    """Experiments can run side by side: only one of them fetches."""
    lock = filelock.FileLock(partial / "lock")
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"{partial}: another process is fetching; waiting for it")
        return lock.acquire()


def mismatch(path: Path, file: File) -> str | None:
    """What tells the file at `path` from the published one; None: they are the same."""
    if not path.is_file():
        return "it is no file"
    with path.open("rb") as opened:
        head = opened.read(4096)
        if _PAGE.match(head):
            return f"it is a web page{_title(head)}"
        if (size := path.stat().st_size) != file.size:
            return f"it has {size:,} bytes, not {file.size:,}"
        opened.seek(0)
        digest = hashlib.file_digest(opened, _algorithm(file)).hexdigest()
    if digest == file.digest:
        return None
    return f"its {_algorithm(file).upper()} is {digest}, not the published {file.digest}"


def _algorithm(file: File) -> str:
    return {32: "md5", 64: "sha256"}[len(file.digest)]


def _title(page: bytes) -> str:
    match = _TITLE.search(page)
    title = "".join(c for c in match[1].decode(errors="replace") if c.isprintable() or c.isspace()) if match else ""
    return f" titled “{' '.join(title.split())}”" if title.strip() else ""


def _check_disk(missing: Sequence[File], partial: Path) -> None:
    needed = sum(file.size - _size(_partial(partial, file)) for file in missing)
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise UserError(
            f"{partial.parent}: {needed / 1e9:.2f} GB are to be fetched and {free / 1e9:.2f} GB are free; make room."
        )


def _partial(folder: Path, file: File) -> Path:
    # gdown takes a file of this form for the beginning of folder/NAME: eight characters, then .part.
    return folder / f"{file.name}.partial.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_one(file: File, folder: Path, partial: Path, patience: Patience) -> list[str] | None:
    """Fetches a file from the first address that has it; returns why each failed, None when one did not."""
    path = _partial(partial, file)
    failures = []
    with transfer(file.name, file.size) as show:
        for url in file.urls:
            problem = _try(url, path, file, show, patience)
            if problem is None:
                with path.open("rb") as opened:
                    os.fsync(opened.fileno())
                path.replace(folder / file.name)
                return None
            failures.append(f"{_shown(url)}: {problem}")
            say(f"{file.name}: {failures[-1]}")
    return failures


def _try(url: str, path: Path, file: File, show: Callable[[int], None], patience: Patience) -> str | None:
    """Makes the file at `path` complete; returns why that failed, or None."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            say(f"{file.name}: {_shown(url)}: {problem}; trying again in {2 ** (attempt - 1)} s")
            patience.pause(2 ** (attempt - 1))
        begin = _size(path)
        try:
            if begin < file.size:
                _transfer(url, path, file, show, patience.timeout)
            wrong = mismatch(path, file)
        except NotTheFile as error:
            return str(error)
        except TransientError as error:
            problem = str(error)
        else:
            if wrong is None:
                return None
            path.unlink()
            problem = f"what it sent is not the file: {wrong}"
            if not begin:  # else it may have been the beginning that was wrong
                return problem
    return f"{problem} ({ATTEMPTS} attempts)"


def _transfer(url: str, path: Path, file: File, show: Callable[[int], None], timeout: float) -> None:
    """Goes on with the file at `path`; raises NotTheFile or TransientError when that fails."""
    try:
        (_from_drive if url.startswith(DRIVE) else _from_server)(url, path, file, show, timeout)
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, KeyError) as error:
        raise _failure(error, timeout) from None
    finally:
        if _size(path) == 0:
            path.unlink(missing_ok=True)


def _from_server(url: str, path: Path, file: File, show: Callable[[int], None], timeout: float) -> None:
    """Goes on with the file at `path` by one HTTP request."""
    have = _size(path)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code not in (200, 206):
            raise _refusal(answer.status_code)
        blocks = answer.iter_content(_BLOCK)
        first = next(blocks, b"")
        if answer.headers.get("Content-Type", "").lower().startswith("text/html") or _PAGE.match(first):
            raise NotTheFile(f"it answers with a web page{_title(first)}")
        at = _begin(answer, have, file)
        with path.open("ab") as opened:
            for block in itertools.chain([first], blocks):
                if at + len(block) > file.size:
                    opened.truncate(have)
                    raise NotTheFile(f"it sends more than {file.size:,} bytes")
                opened.write(block[max(have - at, 0) :])  # a server without ranges sends what is there again
                at += len(block)
                show(max(at, have))
    if at < file.size:
        raise TransientError(f"the connection was cut after {at:,} of {file.size:,} bytes")


def _begin(answer: requests.Response, have: int, file: File) -> int:
    """Where in the file the answer's body begins, if it can be of the file at all."""
    begin, size = 0, answer.headers.get("Content-Length", "*")
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if not match or int(match[1]) != have:
            raise NotTheFile("it sends another range than it was asked for")
        begin, size = have, match[2]
    if size not in ("*", str(file.size)):
        raise NotTheFile(f"it has a file of {int(size):,} bytes, not of {file.size:,}")
    return begin


def _from_drive(url: str, path: Path, file: File, show: Callable[[int], None], timeout: float) -> None:
    """Goes on with the file at `path` from Google Drive."""
    have, target = _size(path), path.with_name(file.name)
    path.touch()
    # gdown itself would follow confirmation pages without end.
    cancel = threading.Event()
    timer = threading.Timer(10 * timeout, cancel.set)

    def check(received: int, total: int | None) -> None:
        timer.cancel()
        if total not in (None, file.size) or received > file.size:
            raise NotTheFile(f"it has a file of {total or received:,} bytes, not of {file.size:,}")
        show(received)

    timer.start()
    try:
        gdown.download(
            url, str(target), quiet=True, use_cookies=False, resume=True, timeout=timeout, progress=check, cancel=cancel
        )
    except NotTheFile:
        os.truncate(path, have)  # what came with the first block is of another file
        raise
    except gdown.exceptions.FileURLRetrievalError as error:
        said = " ".join(str(error).split()).removeprefix("Failed to retrieve file url: ")
        raise NotTheFile(f"Google Drive says: {said.partition(' You may still be able')[0]}") from None
    except gdown.exceptions.DownloadCancelled:
        raise NotTheFile(f"nothing of the file came from it for {10 * timeout:g} s") from None
    except gdown.exceptions.DownloadError as error:
        raise TransientError(" ".join(str(error).split()).partition(".")[0]) from None
    except requests.HTTPError as error:
        raise _refusal(error.response.status_code) from None
    finally:
        timer.cancel()
    target.replace(path)


def _refusal(status: int) -> NotTheFile | TransientError:
    kind = TransientError if status in (408, 429) or status >= 500 else NotTheFile
    phrases = {known.value: known.phrase for known in http.HTTPStatus}
    return kind(f"it answers HTTP {status} {phrases.get(status, '')}".rstrip())


def _failure(error: Exception, timeout: float) -> NotTheFile | TransientError:
    """What went wrong, without the libraries' nesting, which shows whole addresses and places in memory."""
    text = str(error)
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return TransientError(f"nothing came from it for {timeout:g} s")
    if "NameResolutionError" in text:
        return NotTheFile("its name cannot be resolved; is there a network?")
    if isinstance(error, requests.exceptions.SSLError):
        return NotTheFile("its certificate cannot be verified")
    if isinstance(error, requests.TooManyRedirects):
        return NotTheFile("it sends from one address to another without end")
    if isinstance(error, (ValueError, KeyError)):
        return NotTheFile(f"its answer, or the address, makes no sense ({type(error).__name__})")
    if "refused" in text:
        return TransientError("it refuses the connection")
    return TransientError(f"the connection was cut ({type(error).__name__})")


def _shown(url: str) -> str:
    """The address without what may be a secret: user, password, query (Drive's holds but the file's id)."""
    if url.startswith(DRIVE):
        return url
    try:
        parts = urllib.parse.urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme or '?'}://{parts.hostname or '?'}{port}{parts.path}"


def _explanation(file: File, failures: list[str], absent: Sequence[File], folder: Path, home: str) -> str:
    tried = "".join(f"\n  {failure}" for failure in failures)
    by_hand = "".join(f"\n  {f.name} ({f.size:,} bytes, {_algorithm(f).upper()} {f.digest})" for f in absent)
    return (
        f"{file.name} could not be fetched:{tried}\n"
        f"Run it again later, or take these files from {home} and put them into {folder}:{by_hand}"
    )
