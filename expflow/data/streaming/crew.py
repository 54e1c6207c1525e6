"""Threads that stay: started when a trial first needs them, waiting for the next trial when it ends.

They are daemons, so that no fetch from a dead server can keep the interpreter alive, and ``atexit`` dismisses them
before the interpreter would freeze them inside native code. An executor's threads first run all that is queued.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], None]
"""What a crew runs. It raises nothing: whoever submits it says where its errors go."""

PATIENCE_SECONDS = 5.0


class Crew:
    """``size`` threads that run tasks in the order of their submission.

    ``patience_seconds`` is how long the interpreter's exit waits for the tasks that they are running.
    """

    def __init__(self, size: int, name: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        names = [f"expflow-{name}-{number}" for number in range(size)]
        self.threads = [threading.Thread(target=_work, args=(self._tasks,), name=each, daemon=True) for each in names]
        for thread in self.threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Run ``task`` on the next free thread. Takes no lock, so that a finaliser may call it anywhere."""
        self._tasks.put(task)

    def dismiss(self) -> None:
        """Let the threads end behind the tasks they were given, and wait for that, within patience."""
        for _ in self.threads:
            self._tasks.put(None)
        end = time.monotonic() + self._patience_seconds
        for thread in self.threads:
            thread.join(max(end - time.monotonic(), 0))


def _work(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # or the last one would hold its batch until the next comes


_crews: dict[tuple[str, int], Crew] = {}
_lock = threading.Lock()


def crew(name: str, size: int, *, patience_seconds: float = PATIENCE_SECONDS) -> Crew:
    """The crew of this process for ``name`` with ``size`` threads."""
    found = _crews.get((name, size))
    if found is not None:
        return found
    with _lock:
        if (name, size) not in _crews:
            _crews[name, size] = Crew(size, name, patience_seconds)
        return _crews[name, size]


def dismiss_all() -> None:
    """End all threads of this process; the next trial starts new ones."""
    with _lock:
        crews = list(_crews.values())
        _crews.clear()
    for each in crews:
        each.dismiss()


atexit.register(dismiss_all)
# The threads do not exist in a forked child: one that reads data itself starts its own.
os.register_at_fork(after_in_child=_crews.clear)
