"""The template: a process that imports torch and Lightning once, and forks.

    python -P -m expflow.training.template.server SOCKET DESCRIPTOR

It runs no operation of torch, imports neither Ray nor code of the user's, opens no device and has one thread, so that
its forks are as good as new processes. It listens on a socket that only its user can open, and ends when its standard
input ends, which is when its driver has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from expflow.garbage import nothing_collected
from expflow.torchmetrics_imports import hold_back_imports
from expflow.training.allocator import keep_freed_memory, share_heaps
from expflow.training.template.forked import answer_call, become_worker, differences, installed_path
from expflow.training.template.process import BACKLOG
from expflow.training.template.shim import peer_of, receive_frame, send_frame

STAGES = (
    ("torch", "expflow.architectures.accounting"),
    (
        "expflow.training.lightning_runner",
        "expflow.architectures.resnet",
        "expflow.data.augment.pipeline",
        "expflow.data.decode.jpeg_decoder",
        "expflow.data.streaming.loader",
        "expflow.losses.cross_entropy",
        "expflow.optim.optimizers",
        "expflow.optim.schedules",
        "expflow.tasks.classification",
    ),
)
"""What is imported: the runner, and what most trials use besides. After each stage the calls that are waiting are
answered: counting a network needs the first stage only. Workers are forked after the last one."""

OF_WORKERS = (
    "requests",
    "jsonschema",
    "google.protobuf.json_format",
    "google.protobuf.timestamp_pb2",
    "msgpack",
    "filelock",
)
"""What Ray's worker imports besides Ray itself, a fifth of a second in each. A Ray that does without one may."""

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
"""Beginnings of the names of GPUs: an open one cannot be used in a fork."""

REQUEST_SECONDS = 5.0
"""What a shim gets to send its whole request."""

LOOK_SECONDS = 1.0
"""How often the template looks whether its forks are alive."""

_PR_SET_CHILD_SUBREAPER = 36  # sys/prctl.h

Task = Callable[[], None]
"""What a fork does."""


@dataclass
class _Request:
    """A request that was read, with the connection that it came by."""

    connection: socket.socket
    content: dict[str, Any]
    streams: list[int] = field(default_factory=list)

    def close(self) -> None:
        self.connection.close()
        for stream in self.streams:
            os.close(stream)
        self.streams.clear()

    def refuse(self, reason: str) -> None:
        with contextlib.suppress(OSError):
            send_frame(self.connection, json.dumps({"refused": reason}).encode())


class Template:
    """Accepts requests and forks. In a fork, :meth:`warm` and :meth:`serve` return what the fork has to do.

    Args:
        listener: The socket that requests come by.
        lifeline: File descriptor that ends when the driver does.
    """

    def __init__(self, listener: socket.socket, lifeline: int) -> None:
        self._listener, self._lifeline = listener, lifeline
        self._environment, self._installed = dict(os.environ), installed_path()
        self._workers: list[_Request] = []
        """Requests for workers that wait until everything is imported."""
        self._forks: set[int] = set()
        """Process ids of its forks that were alive when it looked."""
        self._warm = False
        self.over = False
        """Whether the driver has ended."""

    def warm(self) -> Task | None:
        """Import everything, and answer calls meanwhile.

        Returns:
            In a fork, its task; in the template, None.
        """
        for stage in STAGES:
            with nothing_collected():  # not what follows: a fork would go on without
                for module in stage:
                    importlib.import_module(module)
            if (task := self._accept_waiting(0.0)) is not None or self.over:
                return task
        with nothing_collected():
            for module in OF_WORKERS:
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)
        _check_forkable()
        gc.collect()
        gc.freeze()  # what is here stays: a collection in a fork would copy its pages for nothing
        self._warm = True
        while self._workers:
            if (task := self._fork_for(self._workers.pop(0))) is not None:
                return task
        return None

    def serve(self) -> Task | None:
        """Accept requests until the driver ends.

        Returns:
            In a fork, its task; in the template, None.
        """
        while not self.over:
            if (task := self._accept_waiting(LOOK_SECONDS if self._forks else None)) is not None:
                return task
            self._end_orphans()
        return None

    def _accept_waiting(self, seconds: float | None) -> Task | None:
        """Take in all requests that are there, or come within some seconds. Returns a fork's task, or None."""
        while True:
            ready = select.select([self._listener.fileno(), self._lifeline], [], [], seconds)[0]
            seconds = 0.0
            if self._lifeline in ready:
                self.over = True
            if self.over or not ready:
                return None
            if (task := self._take()) is not None:
                return task

    def _end_orphans(self) -> None:
        """Kill what a fork that has died left behind, daemons too: orphans become children of this process."""
        gone = {pid for pid in self._forks if not Path(f"/proc/{pid}").exists()}
        self._forks -= gone
        if gone:
            for pid in _children() - self._forks:
                with contextlib.suppress(OSError):  # it has just ended
                    os.kill(pid, signal.SIGKILL)

    def _take(self) -> Task | None:
        try:
            connection, _ = self._listener.accept()
            request = _read(connection)
        except (OSError, EOFError, ValueError):  # whoever called has gone, or has no business here
            return None
        if request is None:
            return None
        if request.content["kind"] == "worker" and not self._warm:
            self._workers.append(request)
            return None
        return self._fork_for(request)

    def _fork_for(self, request: _Request) -> Task | None:
        """Fork, unless the worker would differ from the template in what cannot be changed any more."""
        is_worker = request.content["kind"] == "worker"
        other = differences(self._environment, request.content["environment"]) if is_worker else []
        try:
            if other:
                request.refuse(f"its environment differs in {', '.join(other)}")
            elif (pid := os.fork()) == 0:
                self._leave()
                if is_worker:
                    return partial(become_worker, request.content, self._installed, request.streams, request.connection)
                return partial(answer_call, request.content, request.connection)
            else:
                self._forks.add(pid)
        except OSError as error:
            request.refuse(f"fork: {error.strerror}")
        request.close()
        return None

    def _leave(self) -> None:
        """In a fork: let go of what belongs to the template."""
        self._listener.close()
        for request in self._workers:
            request.close()


def _read(connection: socket.socket) -> _Request | None:
    """The request; None where another user has sent it."""
    connection.settimeout(REQUEST_SECONDS)
    _, user = peer_of(connection)
    if user != os.getuid():
        connection.close()
        return None
    request = _Request(connection, {})
    try:
        _, request.streams, _, _ = socket.recv_fds(connection, 1, 3)
        request.content = json.loads(receive_frame(connection))
    except BaseException:
        request.close()
        raise
    connection.settimeout(None)
    return request


def _adopt_orphans() -> None:
    """Make orphans among the descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    own = os.getpid()
    try:
        return set(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))
    except OSError:  # a kernel without this file
        return set()


def _check_forkable() -> None:
    """Leave where a library has started a thread, whose locks would never be free in a fork, or opened a device."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        sys.exit(f"no rank can be forked: importing has started {threads - 1} threads")
    if devices := [path for path in _open_files() if path.startswith(DEVICES)]:
        sys.exit(f"no rank can be forked: importing has opened {', '.join(devices)}")


def _open_files() -> list[str]:
    paths = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            paths.append(str(link.readlink()))
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """The process's entry.

    Args:
        arguments: The socket's path, and its file descriptor; by default the process's own.
    """
    address, descriptor = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are nobody's to wait for
    keep_freed_memory()
    share_heaps()
    _adopt_orphans()
    hold_back_imports()
    with socket.socket(fileno=int(descriptor)) as listener:
        listener.listen(BACKLOG)  # again: who connects from now on is told this process's id
        template = Template(listener, sys.stdin.fileno())
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # who asks torch for GPUs at import must not open one
        task = template.warm() or template.serve()
    if task is not None:
        task()
    else:  # the driver may have been killed, and cannot remove it
        shutil.rmtree(Path(address).parent, ignore_errors=True)


if __name__ == "__main__":
    main()
