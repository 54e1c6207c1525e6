"""Several calls into MLflow at once: a server answers each in tens of milliseconds, and has more than one worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

Task = Callable[[Callable[[], None]], None]
"""Makes calls one after the other; after each it calls what it is given, which raises when no more are wanted."""

WORKERS = 4
_LOOK_SECONDS = 0.05


class _CancelledCalls(Exception):
    """Raised in a task whose calls are not wanted any more."""


class ParallelCalls:
    """Runs tasks in threads, which end with the process.

    Args:
        seconds: Gives how long the next call may take. A thread cannot be interrupted: one whose call takes longer is
            left behind, and makes no further call.
        workers: Most threads at once.
    """

    def __init__(self, seconds: Callable[[], float], workers: int = WORKERS) -> None:
        self._seconds, self._most = seconds, workers
        self._changed = threading.Condition()
        self._calls = 0
        self._error: BaseException | None = None

    def run(self, tasks: Sequence[Task]) -> None:
        """Run tasks to their end.

        Args:
            tasks: The tasks; none waits for another.

        Raises:
            TimeoutError: No call was answered in time.
            Exception: What the first task that failed has raised.
        """
        waiting = list(reversed(tasks))
        threads = [
            threading.Thread(target=self._work, args=(waiting,), name=f"mlflow-{number}", daemon=True)
            for number in range(min(self._most, len(tasks)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            self._join(thread)
        if self._error is not None:
            raise self._error

    def _join(self, thread: threading.Thread) -> None:
        calls, waited = -1, 0.0
        while thread.is_alive():
            if self._calls != calls:
                calls, waited, patience = self._calls, 0.0, self._seconds()
            elif waited > patience:
                self._fail(TimeoutError(f"no complete answer within {patience:.0f} s"))
                return
            thread.join(_LOOK_SECONDS)
            waited += _LOOK_SECONDS

    def _work(self, waiting: list[Task]) -> None:
        try:
            while self._error is None and (task := self._next(waiting)) is not None:
                task(self._after_call)
        except _CancelledCalls:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            self._fail(error)

    def _next(self, waiting: list[Task]) -> Task | None:
        with self._changed:
            return waiting.pop() if waiting else None

    def _after_call(self) -> None:
        with self._changed:
            self._calls += 1
            if self._error is not None:
                raise _CancelledCalls

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
