"""A real S3 server on loopback, which checks signatures, keeps a log, and fails when it is told to.

The server is localbucket, a file for each object. Added here: signatures (it checks none), removal of many objects at
once and folders' marks (it has neither), and the failures.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import socket
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from localbucket import S3Handler

ACCESS_KEY, SECRET_KEY = "builder", "correct-horse"
BUCKET = "results"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>[^,]+), *"
    r"SignedHeaders=(?P<headers>[^,]+), *Signature=(?P<signature>\w+)"
)


@dataclass(kw_only=True, eq=False)
class S3Server:
    """The server's address and data, what it was asked, and how it is to fail.

    Args:
        num_errors: so many of the next requests that `concerned` holds for are answered with `error`, status and code.
        num_halves: so many of the next objects are cut off half way.
        delay_seconds: before every answer.
    """

    root: Path
    port: int = 0
    requests: list[str] = field(default_factory=list)
    num_errors: int = 0
    error: tuple[int, str] = (500, "InternalError")
    num_halves: int = 0
    delay_seconds: float = 0.0
    concerned: Callable[[str], bool] = lambda line: True
    lock: threading.Lock = field(default_factory=threading.Lock)
    _listener: _Listener | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetched(self) -> list[str]:
        """Keys of the objects whose content was asked for."""
        return [line.split(" ", 1)[1] for line in self.requests if line.startswith("GET ") and "?" not in line]

    def takes_error(self, line: str) -> bool:
        with self.lock:
            if self.num_errors and self.concerned(line):
                self.num_errors -= 1
                return True
            return False

    def takes_half(self) -> bool:
        with self.lock:
            if self.num_halves:
                self.num_halves -= 1
                return True
            return False

    @contextmanager
    def running(self) -> Iterator[S3Server]:
        """Listens for as long as the body runs; at the same port again, when called again."""
        self._listener = _Listener(("127.0.0.1", self.port), _handler(self))
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """From now on connections are refused, and those that are open end."""
        if self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener.end_connections()
            self._listener = None


class _Listener(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def _handler(server: S3Server) -> type[S3Handler]:
    class Handler(S3Handler):
        data_root = server.root

        def log_message(self, format: str, *args: object) -> None:
            """The log is `server.requests`."""

        def _dispatch(self, action: Any) -> None:
            line = f"{self.command} {self.path}"
            server.requests.append(line)
            time.sleep(server.delay_seconds)
            if server.takes_error(line):
                self._refuse(*server.error)
            elif (problem := _signature_problem(self)) is not None:
                self._refuse(403, problem)
            elif self.command == "POST" and "delete" in urlsplit(self.path).query.split("="):
                self._delete_many()
            elif urlsplit(self.path).path.endswith("/") and urlsplit(self.path).path.count("/") > 2:
                self._mark_folder()
            else:
                super()._dispatch(action)

        def _refuse(self, status: int, code: str) -> None:
            self._read_body()
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test asks</Message></Error>"
            self.close_connection = True
            self._send(status, text.encode(), {"Connection": "close"}, include_body=self.command != "HEAD")

        def _send_file(self, status: Any, file: Any, start: int, length: int, headers: Any, include_body: bool) -> None:
            if include_body and length > 1 and server.takes_half():
                self._send_headers(status, length, headers)
                file.seek(start)
                self.wfile.write(file.read(length // 2))
                self.close_connection = True
            else:
                super()._send_file(status, file, start, length, headers, include_body)

        def _delete_many(self) -> None:
            bucket = unquote(urlsplit(self.path).path).strip("/")
            for element in ElementTree.fromstring(self._read_body()).iter():
                if element.tag.endswith("Key"):
                    (self.data_root / bucket / str(element.text)).unlink(missing_ok=True)
            self._send(200, b"<?xml version='1.0'?><DeleteResult/>", {"Content-Type": "application/xml"})

        def _mark_folder(self) -> None:
            folder = self.data_root / unquote(urlsplit(self.path).path).strip("/")
            self._read_body()
            if self.command == "PUT":
                folder.mkdir(parents=True, exist_ok=True)
                self._send(200, headers={"ETag": '"0"'})
            elif self.command == "DELETE":
                with contextlib.suppress(OSError):
                    folder.rmdir()
                self._send(204)
            else:
                self._send(404, include_body=False)

    return Handler


def _signature_problem(request: S3Handler) -> str | None:
    """S3's code for a request that the holder of SECRET_KEY has not signed; None for one that he has."""
    match = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    if match is None:
        return "AccessDenied"
    if match["key"] != ACCESS_KEY:
        return "InvalidAccessKeyId"
    url = urlsplit(request.path)
    names = match["headers"].split(";")
    signed = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
    pairs = (pair.partition("=")[::2] for pair in url.query.split("&") if pair)
    query = "&".join(sorted(f"{quote(unquote(k), safe='')}={quote(unquote(v), safe='')}" for k, v in pairs))
    payload = request.headers["x-amz-content-sha256"]
    canonical = "\n".join([request.command, url.path, query, signed, match["headers"], payload])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET_KEY}".encode()
    for word in match["scope"].split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], match["scope"], digest])
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    return None if hmac.compare_digest(expected, match["signature"]) else "SignatureDoesNotMatch"
