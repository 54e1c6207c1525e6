"""What ``logs`` prints of a trial: its events in the ledger, a line for each, and its own output."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from expflow.cli.documents.log import LogDocument, OutputDocument
from expflow.cli.documents.printing import print_line
from expflow.cli.echo import echo, echo_output
from expflow.cli.views.status import WATCH_SECONDS
from expflow.errors import AddressUnknown
from expflow.events import AttemptFailed, Event, SchedulerDecided, TrialEnded, TrialReported, TrialStarted
from expflow.ledger import Cursor, Record, read
from expflow.live.console import LiteralConsole
from expflow.metrics import metric_value
from expflow.report.formatting import short_duration, trial_label
from expflow.sweep.result_location import find_results, has_live_driver
from expflow.sweep.trial_counts import state_word

_BOOKKEEPING = ("cost/", "progress/")
"""Metrics that do not say how the training goes."""


def show_log(name: str, storage: str | None, *, follow: bool, as_json: bool = False) -> None:
    """Print a trial's events and its output.

    Args:
        name: Address of a trial.
        storage: The folder of all results; None: the site's.
        follow: Whether to go on until the driver ends.
        as_json: Whether JSON objects are printed, one a line.

    Raises:
        AddressUnknown: The address names a whole experiment.
    """
    location = find_results(name, storage)
    if not location.which:
        raise AddressUnknown(f"{name} is a whole experiment; name one of its trials ({location.name}/3fa9)")
    trial = location.trial()
    kind = TrialLogLines if as_json else TrialLog
    log = kind(location.folder, trial.trial, location.trial_folder(trial) / "log.txt")
    alive = has_live_driver(location.folder)
    state = state_word(trial, alive)
    if as_json:
        print_line(LogDocument("log", 1, location.name, trial.trial, state, follow and alive))
    else:
        head = f"{location.name}/{trial.trial}  {trial_label(trial)}  {state}"
        LiteralConsole().print(head, style="bold", soft_wrap=True)
    log.print_new()
    while follow and alive:
        time.sleep(WATCH_SECONDS)
        alive = has_live_driver(location.folder)
        log.print_new()


class TrialLog:
    """One trial's events and output; each call of :meth:`print_new` goes on where the last one ended.

    Args:
        folder: The results folder, which has the ledger.
        trial: Trial id.
        log: The file with the trial's output.
    """

    def __init__(self, folder: Path, trial: str, log: Path) -> None:
        self._folder, self._trial, self._log = folder, trial, log
        self._cursor = Cursor()
        self._printed = 0

    def print_new(self) -> bool:
        """Write what is new to stdout; returns whether there was anything."""
        printed = sum(self.print_event(record) for record in self._records())
        text = self._output()
        if text:
            self.print_output(text.decode(errors="replace"), first=not self._printed)
        self._printed += len(text)
        return bool(printed or text)

    def print_event(self, record: Record) -> bool:
        """Print an event of the trial; returns whether it is one that is shown.

        Args:
            record: The event, and when it was recorded.
        """
        line = _event_line(record)
        if line:
            echo(f"{time.strftime('%H:%M:%S', time.localtime(record.at))}  {line}")
        return bool(line)

    def print_output(self, text: str, *, first: bool) -> None:
        """Print the next part of the trial's output.

        Args:
            text: What it printed.
            first: Whether nothing of it was printed before.
        """
        if first:
            echo(f"-- {self._log.name}")
        echo_output(text)

    def _records(self) -> Iterator[Record]:
        for record in read(self._folder, after=self._cursor):
            self._cursor = record.cursor
            if getattr(record.body, "trial", None) == self._trial:
                yield record

    def _output(self) -> bytes:
        try:
            with self._log.open("rb") as file:
                self._printed = min(self._printed, self._log.stat().st_size)  # a long one is cut in its middle
                file.seek(self._printed)
                return file.read()
        except FileNotFoundError:
            return b""


class TrialLogLines(TrialLog):
    """A trial's events and output as JSON objects, one a line."""

    def print_event(self, record: Record) -> bool:
        """Print an event, as ``sweep --json`` does; all are shown."""
        if isinstance(record.body, Event):
            print_line({"at": record.at, **record.body.to_json()})
        return True

    def print_output(self, text: str, *, first: bool) -> None:
        """Print the next part of the trial's output."""
        print_line(OutputDocument("output", 1, text))


def _event_line(record: Record) -> str:
    """An event in words; empty for one that is not printed."""
    match record.body:
        case TrialStarted() as event:
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"started on {event.gang}{again}" if event.gang != "here" else f"started{again}"
        case TrialReported() as event:
            missing = "".join(f"  {name} missing" for name in event.missing)
            return f"{_moment(event)} {event.progress:4.0%}  {_metrics(event.metrics)}{missing}"
        case AttemptFailed() as event:
            return f"failed: {event.failure}: {event.message}"
        case SchedulerDecided() as event:
            return f"step {event.step}: the scheduler said {event.decision}"
        case TrialEnded() as event:
            why = f" ({event.reason})" if event.reason else ""
            return f"{event.status} after {short_duration(event.seconds)}{why}"
    return ""


def _moment(event: TrialReported) -> str:
    epoch = event.metrics.get("progress/epoch")
    return f"epoch {epoch:3g}" if epoch is not None else f"step {event.step}"


def _metrics(metrics: Mapping[str, float]) -> str:
    shown = [key for key in metrics if not key.startswith(_BOOKKEEPING)]
    return "  ".join(f"{key} {metric_value(key, metrics[key])}" for key in shown)
