"""One attempt at a trial, in this process or by several ranks on this machine, and what it told."""

from __future__ import annotations

from typing import Any

from expflow.events import Report
from expflow.training import Attempt, World, run_trial
from tests.rank_forks import run_forked_ranks


def train_attempt(attempt: Attempt, ranks: int = 1, leave_at: int | None = None) -> tuple[Any, list[Report], list[Any]]:
    """The outcome, the reports and the notices.

    Args:
        attempt: The attempt.
        ranks: How many processes train it.
        leave_at: Which question, counted from 0, whether the process has to go is answered by yes.
    """
    reports, notices, asked = list[Report](), list[Any](), [-1]

    def leave() -> bool:
        asked[0] += 1
        return asked[0] == leave_at

    def on_report(report: Report) -> bool:
        reports.append(report)
        return True

    run: Any = run_trial if ranks == 1 else run_forked_ranks
    outcome = run(attempt, World(ranks=ranks), on_report, on_notice=notices.append, leave=leave)
    return outcome, reports, notices
