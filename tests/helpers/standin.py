"""An HTTP server on loopback that stands in for the places that data comes from, with faults on demand.

As a proxy it also answers in the name of Google Drive and of any other HTTPS server, with a certificate of its own.
"""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import trustme

Answer = Literal["none", "quota", "page", "403", "404", "429", "500"]
Odd = Literal["page without a type", "no number", "asks again"]
Transfer = Literal["cut", "stall", "wrong", "short", "endless", "no ranges", "no ranges and cut", "other range"]
Fault = Literal[Answer, Odd, Transfer]
QUOTA = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>"
    b'<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>'
    b'<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body></html>'
)
# What Google Drive asks before it sends a large file.
CONFIRM = (
    b'<html><body><form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    b'<input type="hidden" name="id" value="%s"><input type="hidden" name="confirm" value="t"></form></body></html>'
)
_PIECE = 1 << 14  # bytes sent at a time


class Request(NamedTuple):
    host: str
    path: str
    begin: int | None  # of the range that was asked for


class StandIn(http.server.ThreadingHTTPServer):
    """Serves files by the last part of the path, or by the query's id."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # What is sent is soon received: a server far ahead of a client could not tell how far the client is.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
        self.files = dict(files)
        self.faults: list[Fault] = []  # one is used up by each request
        self.always: Fault = "none"  # after those
        self.requests: list[Request] = []
        self.sent = 0  # bytes of files
        self.on_sent: Callable[[int], None] = lambda sent: None
        self.authority = trustme.CA()
        self.stalled = threading.Event()  # set it to let stalled answers end
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.stalled.set()
        self.shutdown()
        self.server_close()

    def as_proxy(self, folder: Path) -> dict[str, str]:
        """The environment in which every HTTPS request ends here."""
        self.authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        return {"HTTPS_PROXY": self.url, "REQUESTS_CA_BUNDLE": str(folder / "authority.pem"), "NO_PROXY": ""}

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up, or are killed, are what is tested


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.authority.issue_cert(self.path.rpartition(":")[0]).configure_cert(context)
        self.connection: socket.socket = context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False

    def do_GET(self) -> None:
        server, parts = self.server, urllib.parse.urlsplit(self.path)
        host, query = self.headers.get("Host", ""), urllib.parse.parse_qs(parts.query)
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.requests.append(Request(host, parts.path, int(found[1]) if found else None))
        fault = server.faults.pop(0) if server.faults else server.always
        name = query.get("id", [parts.path.rpartition("/")[2]])[0]
        if fault == "asks again" or (host == "drive.google.com" and fault == "none"):
            self._page(CONFIRM % name.encode())
        elif fault == "quota":
            self._page(QUOTA)
        elif fault == "page":
            self._page(b"<html><head><title>Welcome</title></head></html>", "application/octet-stream")
        elif fault == "page without a type":
            self._page(QUOTA, "application/octet-stream", None)
        elif fault == "no number":
            self._page(b"", "application/octet-stream", "many")
        elif fault.isdigit() or name not in server.files:
            self.send_error(int(fault) if fault.isdigit() else 404)
        else:
            self._file(
                server.files[name], int(found[1]) if found and not fault.startswith("no ranges") else None, fault
            )

    def _page(self, page: bytes, kind: str = "text/html; charset=utf-8", length: str | None = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length != "":
            self.close_connection = True
        if length is not None:
            self.send_header("Content-Length", length or str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _file(self, content: bytes, begin: int | None, fault: Fault) -> None:
        if fault == "wrong":
            content = content.translate(bytes(range(255, -1, -1)))
        elif fault == "short":
            content = content[: len(content) * 3 // 4]
        if begin is not None and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(200 if begin is None else 206)
        if fault == "other range" and begin is not None:
            begin //= 2
        body = content[begin or 0 :]
        if begin is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="file"')
        if fault == "endless":  # it says no length, and ends only with the connection
            self.close_connection = True
            body *= 3
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in ("cut", "stall", "no ranges and cut"):
            body = body[: len(body) // 2]
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            self.wfile.write(piece)
            self.server.sent += len(piece)
            self.server.on_sent(self.server.sent)
        if fault == "stall":
            self.server.stalled.wait()
        if fault in ("cut", "stall", "no ranges and cut"):
            self.close_connection = True
            self.connection.close()
