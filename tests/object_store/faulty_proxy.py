"""A proxy in front of an S3 server that drops, delays, truncates and refuses, by a seed."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
FAULTS = ("drop", "lose_reply", "delay", "truncate_reply", "truncate_request", "500", "503", "412")
CODES = {"500": "InternalError", "503": "SlowDown", "412": "PreconditionFailed"}


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command)
        with suppress(OSError, http.client.HTTPException):
            if fault in CODES:
                self.answer(
                    int(fault), f"<Error><Code>{CODES[fault]}</Code><Message>{fault}</Message></Error>".encode()
                )
            elif fault == "drop":
                self.hang_up()
            elif fault == "truncate_request":
                self.ask(body[: len(body) // 2], cut=True)
                self.hang_up()
            else:
                self.pass_on(body, fault)
            return
        self.hang_up()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_request

    def ask(self, body: bytes, *, cut: bool = False) -> http.client.HTTPResponse | None:
        """Ask the server as the client did, with its ``Host``, which is a part of the signature."""
        self.connection_behind = http.client.HTTPConnection(self.server.target, timeout=60)
        self.connection_behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "connection":
                self.connection_behind.putheader(name, value)
        self.connection_behind.endheaders()
        self.connection_behind.send(body)
        if cut:
            self.connection_behind.close()
            return None
        return self.connection_behind.getresponse()

    def pass_on(self, body: bytes, fault: str) -> None:
        if fault == "delay" or self.server.delay:
            time.sleep(self.server.delay or self.server.random.uniform(0.1, 0.6))
        response = self.ask(body)
        assert response is not None
        content = response.read()
        self.connection_behind.close()
        if fault == "lose_reply":
            self.hang_up()
            return
        headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP}
        length = response.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_response(response.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if fault == "truncate_reply" and content:
            self.wfile.write(content[: len(content) // 2])
            self.hang_up()
            return
        self.wfile.write(content)

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: object) -> None:
        """Nothing: pytest shows enough."""


class FaultyProxy(ThreadingHTTPServer):
    """The proxy. Each request meets a fault with the probability ``rate``, and waits ``delay`` seconds."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, seed: int, rate: float, delay: float = 0.0, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Exchange)
        self.target = urlsplit(target).netloc
        self.url = f"http://{host}:{self.server_port}"
        self.random, self.rate, self.delay = random.Random(seed), rate, delay
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next_fault(self, method: str) -> str:
        with self._lock:
            self.requests[method] += 1
            if self.random.random() >= self.rate:
                return ""
            fault = self.random.choice(FAULTS)
            self.faults[fault] += 1
            return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no news."""


@contextmanager
def proxy_before(
    target: str, *, seed: int = 0, rate: float = 0.0, delay: float = 0.0, host: str = "127.0.0.1"
) -> Iterator[FaultyProxy]:
    """A proxy that serves while the context is open."""
    with FaultyProxy(target, seed, rate, delay, host) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
