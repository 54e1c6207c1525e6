"""What ``sweep --json`` and ``train --json`` print where the same is running already: its events until it ends."""

from __future__ import annotations

import time
from pathlib import Path

from expflow.cli.documents.printing import print_line
from expflow.cli.documents.run import ended_line, started_line
from expflow.cli.views.status import WATCH_SECONDS
from expflow.errors import GangsLost
from expflow.events import Event, TrialEnded
from expflow.ledger import Cursor, exists, load_state, read
from expflow.ledger.lock import read_holder
from expflow.ledger.reader import FOLDER as LEDGER_FOLDER
from expflow.sweep.driver import SweepResult
from expflow.sweep.plan import Plan
from expflow.sweep.result_location import has_live_driver
from expflow.sweep.trial_expansion import expected_trials


def follow_running(plan: Plan) -> int | None:
    """Print the events of the driver that works on the same plan, from now on until it ends.

    Args:
        plan: The plan that was asked for.

    Returns:
        The exit code that its ledger gives; None where what runs is another plan.

    Raises:
        GangsLost: The driver ended before the plan was done.
    """
    holder = read_holder(plan.folder / LEDGER_FOLDER)
    if holder is None or holder.owner is None or not exists(plan.folder):
        return None
    state = load_state(plan.folder)
    if state.header is None or state.header.plan != plan.digest:
        return None
    print_line(started_line(plan, max(expected_trials(plan), len(state.plan_trials())), driver=holder.owner.pid))
    ran = _print_events(plan.folder)
    state = load_state(plan.folder)
    if left := sum(not trial.ended for trial in state.plan_trials()):
        raise GangsLost(f"the driver that worked on {plan.name} ended with {left} trials unfinished; call this again")
    report = plan.folder / "report.json"
    result = SweepResult(state, plan.folder, ran)
    print_line(ended_line(plan, result, str(report) if report.is_file() else ""))
    return result.exit_code


def _print_events(folder: Path) -> int:
    """Print what is recorded from now on until the driver ends; returns how many trials ended meanwhile."""
    cursor, ran, alive = Cursor(), 0, True
    for record in read(folder):
        cursor = record.cursor
    while alive:
        alive = has_live_driver(folder)  # asked first, so that nothing is missed that it wrote last
        for record in read(folder, after=cursor):
            cursor = record.cursor
            if isinstance(record.body, Event):
                print_line({"at": record.at, **record.body.to_json()})
                ran += isinstance(record.body, TrialEnded)
        if alive:
            time.sleep(WATCH_SECONDS)
    return ran
