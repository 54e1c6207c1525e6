"""Ray is shut down while the driver goes on: it takes more than a second, most of which it waits for its processes.

While Ray takes its C++ worker down, a reference to one of its objects that another thread lets go ends the whole
process: the worker that it tells of it is half gone. So the driver goes on once Ray has forgotten that worker, 0.1 to
0.3 s after the beginning. No public function of Ray says when that is, thus the private name here, and here alone; a
Ray without it is shut down before the driver goes on.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from expflow.garbage import nothing_collected

_CLOSING: list[threading.Thread] = []


def shut_down_meanwhile(shutdown: Callable[[], None]) -> None:
    """Begin to shut Ray down; return when references to Ray's objects may be let go. A process ends after it is done.

    Args:
        shutdown: Does it, and returns when it is done.
    """
    thread = threading.Thread(target=shutdown, name="ray-shutdown")
    with nothing_collected():  # references in cycles would be let go by whichever thread allocates next
        if not holds_worker():
            shutdown()
            return
        thread.start()
        while holds_worker() and thread.is_alive():
            time.sleep(0.002)
    _CLOSING.append(thread)


def holds_worker() -> bool:
    """Whether this process has Ray's worker in it; without importing Ray, which a process may do without."""
    module = sys.modules.get("ray._private.worker")
    return module is not None and hasattr(module.global_worker, "core_worker")


def wait_for_shutdown() -> None:
    """Return when nothing is being shut down any more."""
    while _CLOSING:
        _CLOSING.pop().join()
