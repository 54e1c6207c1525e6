"""What Ray executes in place of Python for a rank: it asks the template for a fork, or becomes Python itself.

    python -I -S shim.py SOCKET default_worker.py ARGUMENTS...

The fork gets this process's arguments, environment, working folder, standard streams and limits, and is what Ray's
worker would have been. This file is run by itself, in 20 ms, so it imports nothing but the standard library; the
template imports it for the frames that both speak.

A fork waits for a last word (``GO``) before it becomes a worker. So there is never a second worker beside a Python that
was executed because the template had not answered in time.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

WORKER_SCRIPT = "default_worker.py"
"""Ray's script of a worker; anything else that Ray runs by this executable is none of the template's business."""

PATIENCE_SECONDS = 30.0
"""How long a live template may take to answer: on a busy machine it may still be importing."""

POLL_SECONDS = 0.2
"""How often a shim that waits looks whether the template is still alive."""

GO = b"G"
"""The shim's last word to the fork."""

LIMITS = tuple(sorted(name for name in vars(resource) if name.startswith("RLIMIT_")))

_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")


def send_frame(connection: socket.socket, content: bytes) -> None:
    """Send one frame: its length, then its bytes.

    Args:
        connection: Where to.
        content: The bytes.
    """
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive_frame(connection: socket.socket) -> bytes:
    """Receive one frame.

    Args:
        connection: Where from.

    Raises:
        EOFError: The other side has closed the connection.
    """
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    return _receive(connection, length)


def _receive(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        block = connection.recv(count - len(received))
        if not block:
            raise EOFError("the connection was closed")
        received += block
    return bytes(received)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the process at the other end of a local connection.

    Args:
        connection: The connection.
    """
    content = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(content)
    return pid, user


def runs(pid: int) -> bool:
    """Whether a process is there, and neither dead nor stopped.

    Args:
        pid: Its id.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"T", b"t", b"Z", b"X")


def wait_for_answer(connection: socket.socket, pid: int, patience_seconds: float = math.inf) -> None:
    """Wait until something can be received, as long as the template lives.

    Args:
        connection: The connection to the template.
        pid: The template's process id.
        patience_seconds: How long to wait at most.

    Raises:
        OSError: The template is gone, stopped or too slow.
    """
    give_up = time.monotonic() + patience_seconds
    while not select.select([connection], [], [], POLL_SECONDS)[0]:
        if not runs(pid):
            raise OSError("it is dead or stopped")
        if time.monotonic() > give_up:
            raise OSError("it does not answer")


def own_surroundings(arguments: list[str]) -> dict[str, Any]:
    """What a process inherits, of this one, as a request to the template.

    Args:
        arguments: The command line of the worker, its script first.
    """
    return {
        "kind": "worker",
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes as long to import as all else here
        "umask": _umask(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS},
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "ignored": [int(number) for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN],
        "oom_score": _own("oom_score_adj"),
    }


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _own(name: str) -> str:
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        return file.read().strip()


def hand_over(address: str, arguments: list[str]) -> bool:
    """Let a fork of the template become the worker.

    Args:
        address: The template's socket.
        arguments: The command line of the worker, its script first.

    Returns:
        Whether it did; otherwise this process has to become the worker.
    """
    if not arguments or arguments[0].rpartition("/")[2] != WORKER_SCRIPT:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(address)
            pid, user = peer_of(connection)
            if user != os.getuid():  # its environment holds secrets
                raise OSError(f"the template belongs to user {user}")
            socket.send_fds(connection, [b"F"], [0, 1, 2])
            send_frame(connection, json.dumps(own_surroundings(arguments)).encode())
            wait_for_answer(connection, pid, PATIENCE_SECONDS)
            answer = json.loads(receive_frame(connection))
            if "refused" in answer:
                raise OSError(answer["refused"])
            connection.sendall(GO)
            return True
    except (OSError, EOFError, ValueError) as error:
        sys.stderr.write(f"expflow: no rank is forked ({error}); Python imports what it needs\n")
        sys.stderr.flush()
        return False


def main() -> None:
    """Hand over to the template, or become Python."""
    address, *arguments = sys.argv[1:]
    if not hand_over(address, arguments):
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - what Ray wanted to execute


if __name__ == "__main__":
    main()
