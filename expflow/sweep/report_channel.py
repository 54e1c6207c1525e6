"""The way of a trial's reports and notices from its rank to the dispatcher."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from expflow.events import Report
from expflow.sweep.assignment import Assignment
from expflow.sweep.messages import BatchTriedMessage, Message, ReportMessage, notice_message, to_wire
from expflow.sweep.report_journal import ReportJournal
from expflow.training.contract import BatchFinding, Began, Notice, Saved

MAX_UNSENT_REPORTS = 1000
"""Reports that a trial may be ahead of what it could send; then it waits."""


class ReportChannel:
    """Sends what a trial reports to the dispatcher.

    In lockstep each report waits for its answer. Otherwise a report is sent at once unless an earlier one is still on
    its way: then it goes with the next call, so that a trial which reports a thousand times a second is not held up by
    a thousand round trips. :meth:`push`, which the heartbeat calls, sends what no further report takes along.

    Args:
        assignment: The trial, and whether it runs in lockstep.
        dispatcher: Ray's handle of the dispatcher.
        lease: The key that the dispatcher knows the trial by.
        stepped: Called when the trial has made progress.
        saved: Called when there is a new checkpoint.
    """

    def __init__(
        self,
        assignment: Assignment,
        dispatcher: Any,
        lease: str,
        stepped: Callable[[], None],
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self._assignment, self._dispatcher, self._lease = assignment, dispatcher, lease
        self._experiment = Path(assignment.experiment) if assignment.experiment else None
        self._journal = ReportJournal(assignment.trial, Path(assignment.folder))
        self._lock = threading.Lock()
        self._unsent: list[Message] = []
        self._call: Any = None
        self._go_on = True
        self._stepped, self._saved = stepped, saved

    def report(self, report: Report) -> bool:
        """Note a report and pass it on; returns whether the trial goes on, as far as is known yet.

        Args:
            report: The trial's report.
        """
        message = ReportMessage.from_report(self._assignment.trial, self._assignment.attempt, report)
        self._journal.write(message.attempt, message.step, message.metrics, message.progress, message.missing)
        with self._lock:
            self._unsent.append(message)
            go_on = self._send(wait=self._assignment.lockstep or len(self._unsent) >= MAX_UNSENT_REPORTS)
        self._stepped()
        return go_on

    def notice(self, notice: Notice) -> None:
        """Pass on where the attempt begins, or what it wrote.

        Args:
            notice: The trial's notice.
        """
        message = notice_message(self._assignment.trial, self._assignment.attempt, notice, self._experiment)
        if isinstance(notice, Saved):
            self._saved()
        self.flush()
        self._note(message)
        if not isinstance(notice, Began):  # what comes before the first step is no part of the training
            self._stepped()

    def tried(self, finding: BatchFinding) -> None:
        """Pass on what came of trying a batch before the training.

        Args:
            finding: The finding.
        """
        self._note(BatchTriedMessage.from_finding(self._assignment.trial, self._assignment.attempt, finding))

    def _note(self, message: Message) -> None:
        ray.get(self._dispatcher.note.remote(self._lease, to_wire([message])))

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
            self._receive()
        if self._call is None and self._unsent:
            self._call = self._dispatcher.report.remote(self._lease, to_wire(self._unsent))
            self._unsent = []
            if wait:
                self._receive()
        return self._go_on

    def _receive(self) -> None:
        call, self._call = self._call, None
        self._go_on = bool(ray.get(call)) and self._go_on
