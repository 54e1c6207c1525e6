"""How Ray starts on one machine: without what a sweep there does not need, and without waiting longer than it takes.

Ray has no switches for it. It starts its dashboard's process even where there shall be no dashboard, and waits until it
has imported everything (two CPU seconds), unless the dashboard's port is taken. Its agent imports what the dashboard
asks it for (a CPU second), unless Ray was installed without the dashboard. Its log monitor and the monitor of its
autoscaler, a CPU second each, have nothing to do on one machine; they run when nobody else wants to. And it looks once
a second whether a socket, or the node that is starting, is there: now fifty times.

The names of Ray's modules, files and settings stand in this module alone; ``tests/sweep/test_ray_helpers.py`` notices
when they have changed. Nothing but time depends on them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import ray

HOST = "127.0.0.1"
"""Where the dashboard would listen."""

BEHIND = ("ray/_private/log_monitor.py", "ray/autoscaler/_private/monitor.py")
"""Parts of the command lines of the helpers that run behind everything else."""

LOWEST = 19
"""Their priority; ranks have 15."""

LOOK_SECONDS = 0.02
"""How often is looked for them while Ray starts: a helper that is met early has no threads of another priority."""

SOCKET_LOOKS: Mapping[str, str] = {
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
}
"""Environment of a Ray whose processes look for each other's sockets every 20 ms, for the ten seconds that Ray gives
them; by default once a second."""

START_SECONDS = 30.0
"""How long Ray waits for a node that is starting."""

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
def no_waits() -> Iterator[None]:
    """In the body a node that starts is ready sooner: its agent imports no modules that only a dashboard asks, and the
    node is looked for more often than once a second."""
    services, utils = (getattr(ray._private, name, None) for name in ("services", "utils"))
    with (
        _replaced(services, "get_node", _once_registered),
        _replaced(utils, "get_dashboard_dependency_error", lambda _: lambda: ImportError("there is no dashboard")),
    ):
        yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, by: Callable[[Any], Any]) -> Iterator[None]:
    before = getattr(module, name, None)
    if before is None:
        yield
        return
    setattr(module, name, by(before))
    try:
        yield
    finally:
        setattr(module, name, before)


def _once_registered(get_node: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    """Ray's function that gives a node, called when the node is known, or is not known after Ray's patience."""

    def get_registered(gcs_address: str, node_id: str) -> Any:
        give_up, raylet = time.monotonic() + START_SECONDS, cast(Any, ray._raylet)
        try:
            client = raylet.GcsClient(address=gcs_address)
            while (
                node_id not in {node.hex() for node in client.get_all_node_info(timeout=START_SECONDS)}
                and time.monotonic() < give_up
            ):
                time.sleep(LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001  whatever it is, Ray meets it too, and says it in its own words
            logging.getLogger(__name__).debug("the node is left to Ray to find: %s", error)
        return get_node(gcs_address, node_id)

    return get_registered


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
