"""Ray's helper processes that a sweep on one machine does not need, kept away from the first trials.

Ray has no switch for them. It starts its dashboard's process even where there shall be no dashboard, and waits until it
has imported everything (two CPU seconds), unless the dashboard's port is taken. Its log monitor and the monitor of its
autoscaler, a CPU second each, have nothing to do on one machine; they run when nobody else wants to.

The names of Ray's modules and files stand in this module alone; ``tests/sweep/test_ray_helpers.py`` notices when they
have changed. Nothing but time depends on them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
"""Where the dashboard would listen."""

BEHIND = ("ray/_private/log_monitor.py", "ray/autoscaler/_private/monitor.py")
"""Parts of the command lines of the helpers that run behind everything else."""

LOWEST = 19
"""Their priority; ranks have 15."""

LOOK_SECONDS = 0.02
"""How often is looked for them while Ray starts: a helper that is met early has no threads of another priority."""

_COMPLAINING = "ray._private.services"


@contextlib.contextmanager
def no_dashboard() -> Iterator[int]:
    """In the body a port is taken, so that Ray does not start a dashboard that is told to listen there.

    Yields:
        The port, at :data:`HOST`. Nobody listens there.
    """

    def is_news(record: logging.LogRecord) -> bool:
        return f"{HOST}:{port}" not in record.getMessage()

    logger = logging.getLogger(_COMPLAINING)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind((HOST, 0))
        port = int(taken.getsockname()[1])
        logger.addFilter(is_news)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves the socket open that found the port taken
                yield port
        finally:
            logger.removeFilter(is_news)


@contextlib.contextmanager
def helpers_behind() -> Iterator[None]:
    """While the body starts Ray, its helpers get the lowest priority as soon as they are there (Linux)."""
    if sys.platform != "linux":
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_put_behind, args=(over,), name="ray-helpers")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _put_behind(over: threading.Event) -> None:
    done = set[int]()
    while not over.wait(LOOK_SECONDS) and len(done) < len(BEHIND):
        for pid in _children() - done:
            with contextlib.suppress(OSError):  # it has ended
                if any(part in _command_line(pid) for part in BEHIND):
                    done.add(pid)
                    os.setpriority(os.PRIO_PROCESS, pid, LOWEST)


def _children() -> set[int]:
    children = set[int]()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended, or a kernel without this file
            children |= set(map(int, (thread / "children").read_text(encoding="ascii").split()))
    return children


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
