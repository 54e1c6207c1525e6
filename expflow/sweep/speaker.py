"""What a trial says on its way from the rank to the dispatcher."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from expflow.sweep.journal import Journal

if TYPE_CHECKING:
    from expflow.sweep.rank import Assignment, Message

MOST_UNSENT = 1000
"""Reports that a trial may be ahead of what it could send; then it waits."""


class Speaker:
    """Tells the dispatcher what a trial says.

    In lockstep each report waits for its answer. Otherwise a report is sent at once unless an earlier one is still on
    its way: then it goes with the next call, so that a trial which reports a thousand times a second is not held up by
    a thousand round trips. :meth:`push`, which the pulse calls, sends what no further report takes along.

    ``stepped`` is called when the trial has got on.
    """

    def __init__(
        self, assignment: Assignment, dispatcher: Any, lease: str, started: float, stepped: Callable[[], None]
    ) -> None:
        self._assignment, self._dispatcher, self._lease = assignment, dispatcher, lease
        self._journal = Journal(assignment.trial, Path(assignment.folder))
        self._lock = threading.Lock()
        self._unsent: list[Message] = []
        self._call: Any = None
        self._go_on = True
        self._stepped = stepped
        self.started = started

    def report(self, report: Any) -> bool:
        """Note a report and pass it on; returns whether the trial goes on, as far as is known yet."""
        metrics = {key: float(value) for key, value in report.metrics.items()}
        self._journal.note(self._assignment.attempt, report.step, metrics, report.progress)
        content = {
            "step": report.step,
            "metrics": metrics,
            "progress": report.progress,
            "seconds": time.perf_counter() - self.started,
        }
        with self._lock:
            self._unsent.append(self._message("report", content))
            go_on = self._send(wait=self._assignment.lockstep or len(self._unsent) >= MOST_UNSENT)
        self._stepped()
        return go_on

    def notice(self, notice: Any) -> None:
        """Pass on where the attempt begins, or a checkpoint."""
        from expflow.training import Began

        if isinstance(notice, Began):
            message = self._message("began", {"step": notice.step, "refused": list(notice.refused)})
        else:
            where = notice.path
            if self._assignment.experiment:
                where = where.relative_to(self._assignment.experiment)
            content = {"step": notice.step, "path": str(where), "sha256": notice.sha256, "size": notice.size}
            message = self._message("saved", content)
        self.flush()
        ray.get(self._dispatcher.note.remote(self._lease, message))
        self._stepped()

    def push(self) -> None:
        """Send what waits, unless something is on its way. Waits for nothing but the lock."""
        if self._lock.acquire(blocking=False):
            try:
                self._send(wait=False)
            finally:
                self._lock.release()

    def flush(self) -> None:
        """Send all, and wait until it has arrived. Raises RayError where the dispatcher is gone."""
        with self._lock:
            self._send(wait=True)

    def _send(self, *, wait: bool) -> bool:
        if self._call is not None and (wait or ray.wait([self._call], timeout=0)[0]):
            self._hear()
        if self._call is None and self._unsent:
            self._call = self._dispatcher.report.remote(self._lease, self._unsent)
            self._unsent = []
            if wait:
                self._hear()
        return self._go_on

    def _hear(self) -> None:
        call, self._call = self._call, None
        self._go_on = bool(ray.get(call)) and self._go_on

    def _message(self, kind: str, content: Message) -> Message:
        return {"kind": kind, "trial": self._assignment.trial, "attempt": self._assignment.attempt, **content}
