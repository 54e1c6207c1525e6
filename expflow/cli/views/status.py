"""What ``status`` prints: all experiments with results, or the trials of one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from expflow.errors import Refused
from expflow.ledger import SweepState, TrialState, load_state
from expflow.ledger.reader import unfinished_end
from expflow.live.console import LiteralConsole
from expflow.metrics import metric_value
from expflow.report.artifacts import ArtifactUnreadable, newest_samples, read_picture
from expflow.report.formatting import short_duration, trial_label
from expflow.sweep.result_location import (
    ResultLocation,
    find_results,
    has_live_driver,
    result_folders,
    storage_root,
)
from expflow.sweep.trial_counts import state_word, trial_counts

MOST_ROWS = 200
"""Trials that are listed at most; a terminal shows no more, and thousands take seconds to lay out."""
WATCH_SECONDS = 1.0
"""How long a command that follows results waits before it reads them again."""


def show_all(storage: str | None) -> None:
    """Print one line for each experiment with results.

    Args:
        storage: The folder of all results; None: the site's.
    """
    console, root = LiteralConsole(), storage_root(storage)
    folders = result_folders(root)
    if not folders:
        console.print(f"no results in {root}; `expflow sweep FILE` makes some", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("experiment", "", "trials"):
        table.add_column(title)
    unread = []
    for folder in folders:
        alive = has_live_driver(folder)
        try:
            counts = trial_counts(load_state(folder), alive)
        except Refused as error:  # it must not hide the others
            counts = "the ledger does not read, see below"
            unread.append(error)
        table.add_row(folder.name, "running" if alive else "", counts)
    console.print(table)
    if unread:
        raise unread[0]


def show_status(name: str, storage: str | None, *, follow: bool) -> None:
    """Print the trials of one experiment.

    Args:
        name: Address of the experiment.
        storage: The folder of all results; None: the site's.
        follow: Whether changes are printed until no driver works on it any more.
    """
    console = LiteralConsole()
    location = find_results(name, storage)
    alive = has_live_driver(location.folder)
    _status_table(console, location, alive)
    for line in unfinished_end(location.folder) if not alive else ():
        console.print(str(line), style="yellow", soft_wrap=True)
    last, shown = trial_counts(location.state, alive), ""
    if follow:
        shown = _show_samples(console, location.folder, location.state, shown)
    while follow and alive:
        time.sleep(WATCH_SECONDS)
        alive = has_live_driver(location.folder)
        state = load_state(location.folder)
        now = trial_counts(state, alive)
        shown = _show_samples(console, location.folder, state, shown)
        if now != last or not alive:
            console.print(f"{time.strftime('%H:%M:%S')}  {now}{'' if alive else '; not running now'}")
            last = now


def _show_samples(console: LiteralConsole, folder: Path, state: SweepState, shown: str) -> str:
    """Show the newest picture of samples, unless it is the one that was shown last; returns its path."""
    newest = newest_samples(state) if console.shows_pictures else None
    if newest is None or newest.path == shown:
        return shown
    with suppress(ArtifactUnreadable):  # it may be on its way
        png = read_picture(folder, newest)
        console.print(f"{newest.path}, step {newest.step}", soft_wrap=True)
        console.print_picture(png)
    return newest.path


def _status_table(console: LiteralConsole, location: ResultLocation, alive: bool) -> None:
    header = location.state.header
    metric = header.metric if header else ""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("trial", "state", "config", metric, "time", "why"):
        table.add_column(title)
    trials = location.state.plan_trials()
    shown = _most_telling(trials)
    for trial in shown:
        table.add_row(
            trial.trial,
            state_word(trial, alive),
            trial_label(trial),
            metric_value(metric, trial.metrics[metric]) if metric in trial.metrics else "",
            short_duration(trial.seconds) if trial.ended else f"{trial.progress:.0%}" if trial.reports else "",
            trial.failures[-1].message if trial.status == "failed" and trial.failures else "",
        )
    console.print(table)
    if len(shown) < len(trials):
        all_of_them = location.command("status", "--json")
        console.print(
            f"{len(shown)} of {len(trials):,} trials, those that run or have failed first, then the newest; "
            f"`{all_of_them}` has all",
            soft_wrap=True,
        )
    summary = f"{location.name}: {trial_counts(location.state, alive)}; {_activity(location, alive)}"
    console.print(summary)


def _most_telling(trials: Sequence[TrialState]) -> list[TrialState]:
    """The trials that are listed, in the order of their proposals."""
    if len(trials) <= MOST_ROWS:
        return list(trials)
    order = {"running": 0, "failed": 1, "paused": 2}
    ranked = sorted(enumerate(trials), key=lambda item: (order.get(item[1].status, 3), -item[1].ended_at, item[0]))
    return [trial for _, trial in sorted(ranked[:MOST_ROWS], key=lambda item: item[0])]


def _activity(location: ResultLocation, alive: bool) -> str:
    if alive:
        return "running now"
    if all(trial.ended for trial in location.state.plan_trials()):
        return "not running now"
    command = location.state.header.command if location.state.header else ""
    return "not running now; " + (f"to continue: {command}" if command else "the command that started it continues it")
