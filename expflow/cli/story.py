"""A trial's story: what the ledger says of it, a line for each event, and what it printed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from expflow.cli.live import seconds_text
from expflow.events import AttemptFailed, Decided, Reported, TrialEnded, TrialStarted
from expflow.ledger import Cursor, Record, read
from expflow.report.words import metric_value

_BOOKKEEPING = ("cost/", "progress/")
"""Metrics that do not say how the training goes."""


class Story:
    """Tells one trial's story as far as it has come; each call of :meth:`tell` goes on where the last one ended."""

    def __init__(self, folder: Path, trial: str, log: Path) -> None:
        self._folder, self._trial, self._log = folder, trial, log
        self._cursor = Cursor()
        self._printed = 0

    def tell(self) -> bool:
        """Write what is new to stdout; returns whether there was anything."""
        lines = list(self._lines())
        for line in lines:
            sys.stdout.write(f"{line}\n")
        text = self._output()
        if text and not self._printed:
            sys.stdout.write(f"-- {self._log.name}\n")
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
        self._printed += len(text)
        return bool(lines or text)

    def _lines(self) -> Iterator[str]:
        for record in read(self._folder, after=self._cursor):
            self._cursor = record.cursor
            if getattr(record.body, "trial", None) == self._trial and (said := _said(record)):
                yield f"{time.strftime('%H:%M:%S', time.localtime(record.at))}  {said}"

    def _output(self) -> bytes:
        try:
            with self._log.open("rb") as file:
                file.seek(self._printed)
                return file.read()
        except FileNotFoundError:
            return b""


def _said(record: Record) -> str:
    match record.body:
        case TrialStarted() as event:
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"started on {event.gang}{again}" if event.gang != "here" else f"started{again}"
        case Reported() as event:
            return f"{_moment(event)} {event.progress:4.0%}  {_metrics(event.metrics)}"
        case AttemptFailed() as event:
            return f"failed: {event.failure}: {event.message}"
        case Decided() as event:
            return f"step {event.step}: the scheduler said {event.decision}"
        case TrialEnded() as event:
            why = f" ({event.reason})" if event.reason else ""
            return f"{event.status} after {seconds_text(event.seconds)}{why}"
    return ""


def _moment(event: Reported) -> str:
    epoch = event.metrics.get("progress/epoch")
    return f"epoch {epoch:3g}" if epoch is not None else f"step {event.step}"


def _metrics(metrics: Mapping[str, float]) -> str:
    shown = [key for key in metrics if not key.startswith(_BOOKKEEPING)]
    return "  ".join(f"{key} {metric_value(key, metrics[key])}" for key in shown)
