"""Fetches files from the network: interrupted transfers resume, and a file is either complete and verified, or absent.

gdown fetches from Google Drive, since it handles Google's confirmation pages. Other servers get a plain HTTP request.
Its response is checked before it is appended to the partial file, since it may be a web page, another range, or a file
of another length.
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
ATTEMPTS = 5  # with 1, 2, 4 and 8 seconds between them
_PAGE = re.compile(rb"(\xef\xbb\xbf)?(\s|<!--.*?-->)*<(!doctype html|html|head|\?xml)", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(rb"<title>\s*([^<]*?)\s*</title>", re.IGNORECASE)
_HEAD = 4096  # bytes in which the title of a web page is
_BLOCK = 1 << 16  # bytes; a cut connection loses at most this many


class File(NamedTuple):
    """A file as published by its authors."""

    name: str
    size: int  # bytes
    digest: str  # MD5 or SHA-256 in hexadecimal; the length tells which
    urls: tuple[str, ...]  # tried in this order


class NotTheFile(Exception):
    """An address does not serve the file, and another attempt would not help."""


class TransientError(Exception):
    """A transfer failed for a reason that may be temporary."""


class Patience(NamedTuple):
    """How long to wait for a server."""

    timeout: float = 30  # seconds without a response or a byte
    pause: Callable[[float], None] = time.sleep  # called with the seconds to wait before the next attempt
    attempts: int = ATTEMPTS  # per address


PATIENT = Patience()


def fetch(files: Sequence[File], folder: Path, home: str, patience: Patience = PATIENT, ways: str = "") -> None:
    """Fetches `files` into `folder`; files that already exist there are only verified.

    Partial files are kept in `folder`/.partial, and an interrupted transfer resumes from them.

    Args:
        home: where the authors publish the files, for the error message.
        ways: what else the user can do, as the end of a sentence, for the error message.

    Raises:
        UserError: a file in `folder` is not the published one, the disk has too little space, or all addresses of a
            file fail. In the last case the message lists the addresses, why each of them failed, and which files to put
            where by hand.
    """
    missing = []
    for file in files:
        path = folder / file.name
        if not path.exists():
            missing.append(file)
        elif problem := mismatch(path, file):
            otherwise = f", or {ways}" if ways and not web_page(path) else ""
            raise UserError(f"{path}: it is not the published file ({problem}); remove or replace it{otherwise}.")
    if not missing:
        return
    partial = folder / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    with _alone(partial):
        missing = [file for file in missing if not (folder / file.name).exists()]
        _check_disk(missing, partial)
        for file in sorted(missing, key=lambda file: file.size):  # smallest first, so that errors show early
            failures = _fetch_one(file, folder, partial, patience)
            if failures is not None:
                absent = [f for f in missing if not (folder / f.name).is_file()]
                raise UserError(_explanation(file, failures, absent, folder, home, ways))


def _alone(partial: Path) -> contextlib.AbstractContextManager[object]:
    """Locks `partial`, since several experiments can run at once and only one of them may fetch."""
    lock = filelock.FileLock(partial / "lock")
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"{partial}: another process is fetching; waiting for it")
        return lock.acquire()


def mismatch(path: Path, file: File) -> str | None:
    """Returns how the file at `path` differs from the published one; None if they are the same."""
    if not path.is_file():
        return "it is not a file"
    if page := web_page(path):
        return page
    if (size := path.stat().st_size) != file.size:
        return f"it has {size:,} bytes, not {file.size:,}"
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, _algorithm(file)).hexdigest()
    if digest == file.digest:
        return None
    return f"its {_algorithm(file).upper()} is {digest}, not the published {file.digest}"


def web_page(path: Path) -> str | None:
    """Returns words about the web page that a file holds; None if it holds none."""
    with path.open("rb") as opened:
        return page_in(opened.read(_HEAD))


def page_in(data: bytes) -> str | None:
    """Returns words about the web page that begins with these bytes; None if none does."""
    head = data[:_HEAD]
    return f"it is a web page{_title(head)}" if _PAGE.match(head) else None


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
            f"{partial.parent}: {needed / 1e9:.2f} GB must be fetched, but {free / 1e9:.2f} GB are free; "
            "free some space."
        )


def _partial(folder: Path, file: File) -> Path:
    # gdown resumes folder/NAME from a file of this form: NAME, eight characters, .part.
    return folder / f"{file.name}.partial.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_one(file: File, folder: Path, partial: Path, patience: Patience) -> list[str] | None:
    """Fetches a file from the first address that serves it; returns None, or why each address failed."""
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
    """Completes the partial file at `path` from one address; returns None, or why that failed."""
    problem = ""
    for attempt in range(patience.attempts):
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
            problem = f"it sent another file: {wrong}"
            if not begin:  # otherwise the beginning may have been the wrong part
                return problem
    return f"{problem} ({patience.attempts} attempts)" if patience.attempts > 1 else problem


def _transfer(url: str, path: Path, file: File, show: Callable[[int], None], timeout: float) -> None:
    """Continues the partial file at `path`; raises NotTheFile or TransientError if that fails."""
    try:
        (_from_drive if url.startswith(DRIVE) else _from_server)(url, path, file, show, timeout)
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, KeyError) as error:
        raise _failure(error, timeout) from None
    finally:
        if _size(path) == 0:
            path.unlink(missing_ok=True)


def _from_server(url: str, path: Path, file: File, show: Callable[[int], None], timeout: float) -> None:
    """Continues the partial file at `path` with one HTTP request."""
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
                opened.write(block[max(have - at, 0) :])  # a server without ranges sends the beginning again
                at += len(block)
                show(max(at, have))
    if at < file.size:
        raise TransientError(f"the connection was cut after {at:,} of {file.size:,} bytes")


def _begin(answer: requests.Response, have: int, file: File) -> int:
    """Returns the offset in the file at which the body of the response begins; raises NotTheFile if it cannot fit."""
    begin, size = 0, answer.headers.get("Content-Length", "*")
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if not match or int(match[1]) != have:
            raise NotTheFile("it sends another range than requested")
        begin, size = have, match[2]
    if size not in ("*", str(file.size)):
        raise NotTheFile(f"it has a file of {int(size):,} bytes, not of {file.size:,}")
    return begin


def _from_drive(url: str, path: Path, file: File, show: Callable[[int], None], timeout: float) -> None:
    """Continues the partial file at `path` from Google Drive."""
    have, target = _size(path), path.with_name(file.name)
    path.touch()
    # Without the timer, gdown would follow confirmation pages forever.
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
        os.truncate(path, have)  # the first block belongs to another file
        raise
    except gdown.exceptions.FileURLRetrievalError as error:
        said = " ".join(str(error).split()).removeprefix("Failed to retrieve file url: ")
        raise NotTheFile(f"Google Drive says: {said.partition(' You may still be able')[0]}") from None
    except gdown.exceptions.DownloadCancelled:
        raise NotTheFile(f"it sent nothing of the file for {10 * timeout:g} s") from None
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
    return kind(f"it answers with HTTP {status} {phrases.get(status, '')}".rstrip())


def _failure(error: Exception, timeout: float) -> NotTheFile | TransientError:
    """Returns the error in plain words.

    The nested messages of the libraries show whole addresses, which may hold secrets, and memory addresses.
    """
    text = str(error)
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return TransientError(f"it sent nothing for {timeout:g} s")
    if "NameResolutionError" in text:
        return NotTheFile("its name cannot be resolved; check the network connection")
    if isinstance(error, requests.exceptions.SSLError):
        return NotTheFile("its certificate cannot be verified")
    if isinstance(error, requests.TooManyRedirects):
        return NotTheFile("it redirects too many times")
    if isinstance(error, (ValueError, KeyError)):
        return NotTheFile(f"its response or its address is invalid ({type(error).__name__})")
    if "refused" in text:
        return TransientError("it refuses the connection")
    return TransientError(f"the connection was cut ({type(error).__name__})")


def _shown(url: str) -> str:
    """Returns the address without user, password and query, which may be secret; Drive's query holds only a file id."""
    if url.startswith(DRIVE):
        return url
    try:
        parts = urllib.parse.urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an invalid address"
    return f"{parts.scheme or '?'}://{parts.hostname or '?'}{port}{parts.path}"


def _explanation(file: File, failures: list[str], absent: Sequence[File], folder: Path, home: str, ways: str) -> str:
    tried = "".join(f"\n  {failure}" for failure in failures)
    by_hand = "".join(f"\n  {f.name} ({f.size:,} bytes, {_algorithm(f).upper()} {f.digest})" for f in absent)
    return (
        f"{file.name} could not be fetched:{tried}\n"
        f"Run the command again later, or download these files from {home} and put them into {folder}:{by_hand}"
        + (f"\nOr {ways}." if ways else "")
    )
