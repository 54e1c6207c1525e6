"""Ends a sweep in good order whose Ray is gone.

When Ray's head or this node's raylet dies, calls into Ray wait for a minute and then end the process. So whatever calls
Ray runs on a thread of its own, the main thread looks whether Ray still listens, and lets that thread be where it does
not. Signals reach the main thread at once, for the same reason.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import ray

LOOK_SECONDS = 0.5
"""How often the main thread looks."""

REFUSED_SECONDS = 2.0
"""How long a Ray that this process started may refuse connections until it counts as lost."""

UNREACHABLE_SECONDS = 40.0
"""How long a cluster may: its head may be started again. After a minute Ray would end this process."""


@dataclass
class RayProbe:
    """Whether Ray's head and this node's raylet take connections.

    Attributes:
        endpoints: Host and port of each.
        patience: Seconds that one of them may refuse.
        failing_since: When one of them began to, by a monotonic clock; None while both answer.
        given_up: Whether the cluster was found lost. Then nothing may call Ray any more, not even to shut it down: the
            thread that was left behind would start another one with its next call. Ray's processes end with this one.
    """

    endpoints: tuple[tuple[str, int], ...]
    patience: float
    failing_since: float | None = None
    given_up: bool = False

    @classmethod
    def of_connected(cls, *, own: bool) -> RayProbe:
        """The probe of the cluster that this process is connected to; what does not answer now is not watched.

        Args:
            own: Whether this process started it.
        """
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        endpoints = [(host.strip("[]"), int(port))]
        here = ray.get_runtime_context().get_node_id()
        endpoints += [
            (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in ray.nodes() if node["NodeID"] == here
        ]
        return cls(tuple(filter(listens, endpoints)), REFUSED_SECONDS if own else UNREACHABLE_SECONDS)

    def lost(self) -> bool:
        """Whether one of them has not answered for too long."""
        if all(map(listens, self.endpoints)):
            self.failing_since = None
            return False
        now = time.monotonic()
        self.failing_since = self.failing_since or now
        return now - self.failing_since >= self.patience


def listens(endpoint: tuple[str, int], seconds: float = LOOK_SECONDS) -> bool:
    """Whether something takes connections.

    Args:
        endpoint: Its host and port.
        seconds: How long it may take to.
    """
    with suppress(OSError), socket.create_connection(endpoint, timeout=seconds):
        return True
    return False


def run_supervised(work: Callable[[], None], lost: Callable[[], bool]) -> bool:
    """Run work that calls Ray on a thread of its own, and wait for it as long as Ray is there.

    Args:
        work: The work; what it raises is raised here.
        lost: Asked again and again whether Ray is gone.

    Returns:
        Whether the work came to its end; otherwise its thread was left behind.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  raised again below, on the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="expflow-ray", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if thread.is_alive() and lost():
            return False
    if errors:
        raise errors[0]
    return True
