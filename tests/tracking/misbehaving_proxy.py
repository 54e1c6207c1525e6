"""A proxy in front of an MLflow server that misbehaves as servers, load balancers and networks do."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})


class Exchange(BaseHTTPRequestHandler):
    """One connection of a client's; each request is passed on unless the proxy has a fault for it."""

    protocol_version = "HTTP/1.1"
    server: MisbehavingProxy

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.requests += 1
        if self.server.fault is not None and self.server.is_due(self.command, self.path, body):
            self.server.faults += 1
            self.server.fault(self, body)
        else:
            self.pass_on(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_request

    def pass_on(self, body: bytes, *, answer: bool = True) -> None:
        """Ask the server, and hand its answer back unless that is to be lost."""
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP | {"host"}}
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if not answer:
            self.hang_up()
            return
        self.reply(response.status, content, {k: v for k, v in response.getheaders() if k.lower() not in HOP})

    def reply(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: object) -> None:
        """Nothing: pytest shows enough."""


Fault = Callable[[Exchange, bytes], None]


class MisbehavingProxy(ThreadingHTTPServer):
    """The proxy. ``fault`` is what happens to the requests that are due: each of the first ``most`` different writes,
    the first time that it comes; or with ``always``, every request."""

    daemon_threads = True

    def __init__(self, target: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.target = urlsplit(target).netloc
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.fault: Fault | None = None
        self.always, self.most = False, 1000
        self.requests = self.faults = 0
        self.closing = threading.Event()
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def is_due(self, method: str, path: str, body: bytes) -> bool:
        if self.always:
            return True
        digest = hashlib.sha256(f"{method} {path} ".encode() + body).digest()
        with self._lock:
            first = method in WRITES and "/runs/search" not in path and digest not in self._seen
            self._seen.add(digest)
            return first and self.faults < self.most


@contextmanager
def proxy_before(target: str, port: int = 0) -> Iterator[MisbehavingProxy]:
    """A proxy that serves while the context is open."""
    with MisbehavingProxy(target, port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            proxy.shutdown()
            thread.join()


def answering(status: int, content: str, **headers: str) -> Fault:
    """The request does not reach the server; this is answered in its place."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange, body: exchange.reply(status, content.encode(), named)


def never_answering(exchange: Exchange, body: bytes) -> None:
    """The connection is taken and nothing comes back."""
    exchange.server.closing.wait(30)
    exchange.hang_up()


def losing_the_reply(exchange: Exchange, body: bytes) -> None:
    """The server does what it is asked for, and the connection breaks before its answer."""
    exchange.pass_on(body, answer=False)


def hanging_up(exchange: Exchange, body: bytes) -> None:
    """The connection breaks before the server has heard of it."""
    exchange.hang_up()
