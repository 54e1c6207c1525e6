"""Threads that stay between trials: started when a trial first needs them, waiting for the next when it ends."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], None]
"""What a pool runs. It raises nothing: the task itself keeps its errors for the consumer."""

EXIT_WAIT_SECONDS = 5.0


class ThreadPool:
    """Threads that run tasks in the order of their submission.

    Not ``concurrent.futures.ThreadPoolExecutor``, for three reasons. Its threads are no daemons, and the interpreter's
    exit waits for them and for all that is queued: a fetch from a dead server would keep the process alive. Its
    ``submit`` takes locks, so that the finaliser of an abandoned pass could deadlock in it. And it keeps a task's
    result, here a batch, in a future. These threads are daemons, and ``atexit`` ends them before the interpreter would
    freeze them inside native code.

    Args:
        size: How many threads.
        name: What the threads are called, behind ``expflow-``.
        exit_wait_seconds: How long :meth:`shut_down`, and so the interpreter's exit, waits for running tasks.
    """

    def __init__(self, size: int, name: str, exit_wait_seconds: float = EXIT_WAIT_SECONDS) -> None:
        self._exit_wait_seconds = exit_wait_seconds
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self.threads = [
            threading.Thread(target=_work, args=(self._tasks,), name=f"expflow-{name}-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Run a task on the next free thread. Takes no lock, so that a finaliser may call it anywhere.

        Args:
            task: What is run; it must not raise.
        """
        self._tasks.put(task)

    def shut_down(self) -> None:
        """Let the threads end behind the tasks that are queued, and wait for that for a limited time."""
        for _ in self.threads:
            self._tasks.put(None)
        end = time.monotonic() + self._exit_wait_seconds
        for thread in self.threads:
            thread.join(max(end - time.monotonic(), 0))


def _work(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # or the last one would hold its batch until the next comes


_pools: dict[tuple[str, int], ThreadPool] = {}
_lock = threading.Lock()


def shared_pool(name: str, size: int, *, exit_wait_seconds: float = EXIT_WAIT_SECONDS) -> ThreadPool:
    """The pool of this process for one purpose, started where it is not there yet.

    Args:
        name: The purpose.
        size: How many threads; each size has a pool of its own.
        exit_wait_seconds: How long the interpreter's exit waits for running tasks.
    """
    pool = _pools.get((name, size))
    if pool is not None:
        return pool
    with _lock:
        if (name, size) not in _pools:
            _pools[name, size] = ThreadPool(size, name, exit_wait_seconds)
        return _pools[name, size]


def shut_down_pools() -> None:
    """End all threads of this process; the next trial starts new ones."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.shut_down()


atexit.register(shut_down_pools)
# The threads do not exist in a forked child: one that reads data itself starts its own.
os.register_at_fork(after_in_child=_pools.clear)
