"""``sweep --json`` and ``train --json``: a handle on the first line, the ledger's events, and the end on the last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from expflow.cli.documents.printing import print_line
from expflow.events import Event
from expflow.ledger import SweepState
from expflow.sweep.driver import SweepResult
from expflow.sweep.plan import Plan


@dataclass(frozen=True)
class RunStarted:
    """The handle of a run; events follow, one a line, as the ledger has them (``event``: their kind).

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results: ``expflow status NAME --json`` asks for them from elsewhere.
        folder: Their folder.
        pid: The driver's process; SIGINT or SIGTERM stops it with everything saved.
        trials: How many trials the plan expects.
        already_running: Whether it ran already: nothing new was started, and what follows is of that driver.
        command: The command that continues it; it repeats nothing that is done.
    """

    document: Literal["started"]
    version: Literal[1]
    name: str
    folder: str
    pid: int
    trials: int
    already_running: bool
    command: str


@dataclass(frozen=True)
class RunEnded:
    """The last line of a run.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        ran: How many trials ended in this run.
        done: How many trials of the plan are at their full budget.
        failed: The ids of those that failed.
        notes: What a reader must know: a budget that was reached, proposals that were refused.
        exit_code: The exit code.
        report: ``report.json``; empty where no report was written.
    """

    document: Literal["ended"]
    version: Literal[1]
    name: str
    ran: int
    done: int
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    exit_code: int
    report: str


def started_line(plan: Plan, trials: int, *, driver: int | None = None) -> RunStarted:
    """The handle of a run that is about to begin.

    Args:
        plan: Its plan.
        trials: How many trials it expects.
        driver: Process id of the driver that runs it already; None: it is this process.
    """
    pid = os.getpid() if driver is None else driver
    return RunStarted("started", 1, plan.name, str(plan.folder), pid, trials, driver is not None, plan.command)


def ended_line(plan: Plan, result: SweepResult, report: str) -> RunEnded:
    """The end of a run.

    Args:
        plan: Its plan.
        result: What it left.
        report: The file of the report for programs; empty where there is none.
    """
    trials = result.state.plan_trials()
    return RunEnded(
        "ended",
        1,
        plan.name,
        result.ran,
        sum(trial.status == "done" for trial in trials),
        tuple(trial.trial for trial in trials if trial.status == "failed"),
        tuple(result.notes),
        result.exit_code,
        report,
    )


class EventPrinter:
    """Prints each event that the driver records, as the ledger has it."""

    def __call__(self, event: Event, state: SweepState) -> None:
        """Print one event.

        Args:
            event: The event.
            state: The state after it.
        """
        print_line({"at": state.at, **event.to_json()})
