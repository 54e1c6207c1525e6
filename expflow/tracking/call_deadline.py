"""Calls into MLflow end in time, whatever the server does.

A timeout of HTTP holds for one read: a server that sends a byte a second would hold a call for as long as it likes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

CALL_SECONDS = 60.0
"""How long one call may take."""

UPLOAD_BYTES_PER_SECOND = 50_000
"""What a slow connection carries; files get that much more time."""

_AGAIN_SECONDS = 1.0
"""How soon the deadline is raised again, where a library has caught it and gone on."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body when it takes too long. Only the main thread can be interrupted so.

    Args:
        seconds: How long it may take.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no complete answer within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TimedClient:
    """A client whose every call has a deadline.

    Args:
        client: MLflow's client.
        seconds: Gives how long the next call may take.
    """

    def __init__(self, client: Any, seconds: Callable[[], float]) -> None:
        self._client, self._seconds = client, seconds

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with deadline(self._seconds() + _upload_seconds(name, arguments)):
                return method(*arguments, **named)

        return call


def _upload_seconds(method: str, arguments: tuple[Any, ...]) -> float:
    """What files that a call uploads may take besides."""
    if method not in ("log_artifact", "log_artifacts", "log_model_artifact", "log_model_artifacts"):
        return 0.0
    path = Path(arguments[1])
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / UPLOAD_BYTES_PER_SECOND
