"""An HTTP server that does wrong on command: what a fault does stands in the request's turn."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from expflow.data.shards.manifest import ShardEntry


def content(seed: int, size: int = 300_000) -> bytes:
    """Bytes that no two seeds share."""
    block = hashlib.sha512(str(seed).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


def shard_of(name: str, data: bytes) -> ShardEntry:
    return ShardEntry(name, 1, len(data), hashlib.sha256(data).hexdigest())


@dataclass
class Fault:
    """How one request is answered. ``before`` runs before anything is said; of the body, ``sent`` bytes go out before
    ``then`` runs and, with ``cut``, the connection is closed.
    """

    before: Callable[[], object] | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None
    then: Callable[[], object] | None = None
    cut: bool = False
    ignore_range: bool = False
    length: int | None = None
    shift: int = 0
    body: bytes | None = None


class Server(ThreadingHTTPServer):
    """Serves ``files``; each request takes the next of ``faults``, or ``always``. ``requests`` says what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: deque[Fault] = deque()
        self.always = Fault()
        self.tags = True
        self.requests: list[tuple[str, str, str]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, name: str, data: bytes) -> ShardEntry:
        self.files[name] = data
        return shard_of(name.rpartition("/")[2], data)

    def fail(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    @property
    def ranges(self) -> list[str]:
        return [asked for _, asked, _ in self.requests]

    def handle_error(self, request, client_address) -> None:
        """A client that left is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None: ...

    def do_GET(self) -> None:
        server, name = self.server, unquote(urlsplit(self.path).path).lstrip("/")
        fault = server.faults.popleft() if server.faults else server.always
        asked, condition = self.headers.get("Range", ""), self.headers.get("If-Range", "")
        server.requests.append((self.path, asked, condition))
        if fault.before:
            fault.before()
        if fault.status:
            self.answer(fault, fault.status, fault.body or b"", fault.headers)
        elif name not in server.files:
            self.answer(fault, 404, b"", {})
        else:
            self.file(fault, fault.body or server.files[name], asked, condition)

    def file(self, fault: Fault, data: bytes, asked: str, condition: str) -> None:
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        headers = {**({"ETag": tag} if self.server.tags else {}), **fault.headers}
        if not asked or fault.ignore_range or (condition and condition != tag):
            return self.answer(fault, 200, data, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(data)), len(data) - 1)
        if begin >= len(data):
            return self.answer(fault, 416, b"<Error><Code>InvalidRange</Code></Error>", {})
        headers["Content-Range"] = f"bytes {begin + fault.shift}-{end + fault.shift}/{len(data)}"
        return self.answer(fault, 206, data[begin : end + 1], headers)

    def answer(self, fault: Fault, status: int, body: bytes, headers: dict[str, str]) -> None:
        if "Date" in headers:  # in place of its own
            self.send_response_only(status)
        else:
            self.send_response(status)
        length = len(body) if fault.length is None else fault.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = len(body) if fault.sent is None else fault.sent
        self.wfile.write(body[:sent])
        self.wfile.flush()
        if fault.then:
            fault.then()
        if fault.cut or fault.length is not None:
            self.close_connection = True
        if not fault.cut:
            self.wfile.write(body[sent:])
