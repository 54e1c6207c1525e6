"""Mutated answers of an HTTP server: each gives the file or a named error, in bounded time and memory.

``python -m tests.fuzz.test_http_answers 10000 [SEED]`` tries that many; the tests try 100. A connection is closed
behind each answer; servers that hold one are in tests/data/stores/test_http_attacks.py.
"""

import contextlib
import socket
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from expflow.data.stores import RetryPolicy, open_root
from expflow.errors import ExpflowError
from tests.fuzz.bounds import within_bounds
from tests.fuzz.test_data_readers import mutated

BODY = b'{"key": "value"}'
ANSWERS = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\nETag: "abc"\r\nContent-Type: a/b; charset=x\r\n\r\n' + BODY,
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-15/16\r\nContent-Length: 16\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + BODY + b"\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nLast-Modified: Mon, 30 Nov 2026 10:00:00 GMT\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 16\r\n\r\n" + BODY,
    b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b; Path=/; Max-Age=9\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 12\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow down\r\nRetry-After: Mon, 30 Nov 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 416 Range\r\nContent-Length: 3\r\n\r\nabc",
    b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth"\r\nContent-Length: 0\r\n\r\n',
]
TEXTS = (b"\xb2", b"-1", b"9" * 400, b"\0", b"\r\n", b": ", b"\xff\xfe", b"chunked", b"Z" * 70_000, b"X: y\r\n" * 300)
"""What is put among the bytes besides bytes: what readers of headers stumble over."""


class Answering:
    """A server on loopback that answers every request with ``answer`` and closes the connection."""

    def __init__(self) -> None:
        self.answer, self._server = b"", socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.recv(65536)
                client.sendall(self.answer)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@contextlib.contextmanager
def nothing_beyond(port):
    """No name is looked up and no address connected to but that of the server: mutated redirects name any host."""
    known = socket.getaddrinfo

    def look_up(host, wanted, *arguments, **keys):
        if (host, wanted) not in (("127.0.0.1", port), ("127.0.0.1", None)):
            raise socket.gaierror(socket.EAI_NONAME, "not looked up")
        return known(host, wanted, *arguments, **keys)

    socket.getaddrinfo = look_up
    try:
        yield
    finally:
        socket.getaddrinfo = known


def _mutated(content, random):
    content = mutated(content, random)
    if not random.integers(0, 3):
        at = int(random.integers(0, len(content) + 1))
        content = content[:at] + TEXTS[int(random.integers(0, len(TEXTS)))] + content[at:]
    return content


def attack(count, folder, seed=0):
    """Try ``count`` mutated answers: each gives the file or a named error, within bounds."""
    random, server = np.random.default_rng(seed), Answering()
    policy = RetryPolicy(attempts=2, connect_timeout=5, stall_timeout=5, jitter=lambda: 0.0, sleep=lambda _: None)
    try:
        with nothing_beyond(server.port):
            for number in range(-len(ANSWERS), count):
                answer = ANSWERS[number % len(ANSWERS)]
                server.answer = _mutated(answer, random) if number >= 0 else answer
                what = f"mutation {number} of seed {seed}: {server.answer[:500]!r}"
                with within_bounds(what) if number >= 0 else contextlib.nullcontext():
                    _fetch(f"http://127.0.0.1:{server.port}", policy, folder, what)
    finally:
        server.close()


def _fetch(address, policy, folder, what):
    root = open_root(address, retry_policy=policy)
    try:
        for read in (lambda: root.read_bytes("manifest.json"), lambda: root.download("train-0.tar", folder / "shard")):
            try:
                with contextlib.suppress(ExpflowError):
                    read()
            except Exception as error:
                raise AssertionError(what) from error
    finally:
        root.close()


@pytest.mark.timeout(60)
def test_mutated_answers_give_the_file_or_a_named_error(tmp_path):
    attack(100, tmp_path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        attack(int(sys.argv[1]), Path(scratch), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        print(f"http: {sys.argv[1]} mutations, each the file or a named error")
