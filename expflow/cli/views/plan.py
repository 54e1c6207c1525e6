"""What ``plan`` prints: the trials, what each costs, and what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from rich.table import Table

from expflow.config.space import range_notes
from expflow.errors import DataMissing, StorageUnwritable
from expflow.ledger import SweepState, exists, load_state
from expflow.live.console import LiteralConsole
from expflow.report.costs import range_text
from expflow.report.formatting import and_join, config_label, duration, plural
from expflow.report.resolvable import resolvable_lines
from expflow.sweep.batch_checks import try_batches
from expflow.sweep.code_hashes import user_modules
from expflow.sweep.continuation import continuation_problems
from expflow.sweep.cost_estimate import TrialCost, check_builds, measure_times
from expflow.sweep.data_preparation import data_remarks
from expflow.sweep.forecast import forecast, save_forecast
from expflow.sweep.plan import Plan
from expflow.sweep.plan_difference import compare_plan, planned_status
from expflow.sweep.planned_sources import PlannedSource, planned_sources

_MOST_ROWS = 60
_MOST_SOURCES = 6


def show_plan(plan: Plan, *, measure: bool, check: bool) -> None:
    """Print the plan's trials with parameters, multiply-adds, and the estimated time.

    Args:
        plan: The plan.
        measure: Whether a few steps are trained to estimate the time.
        check: Whether one batch of each distinct network is tried.

    Raises:
        DataMissing: The data are not there; what is known without them is printed first.
    """
    console = LiteralConsole()
    about = plan.loaded.experiment.about
    if about.question:
        console.print(about.question, style="bold")
    try:
        rows = check_builds(plan)
    except DataMissing:
        with suppress(DataMissing):  # the same again, where nothing is published of them
            supposing = plan.with_published_data()
            _show(console, supposing, check_builds(supposing))
            console.print("no batch was tried, as the data are not here")
        raise
    notes: tuple[str, ...] = ()
    if check:
        with console.status("trying one batch of each network"):
            notes = try_batches(plan, (row.trial for row in rows)).notes
    if measure:
        with console.status("measuring a few steps"):
            rows = measure_times(plan, rows)
    _show(console, plan, rows)
    for note in notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)


def _show(console: LiteralConsole, plan: Plan, rows: Sequence[TrialCost]) -> None:
    known = load_state(plan.folder) if exists(plan.folder) else SweepState()
    console.print(_table(rows, known))
    _totals(console, plan, rows, known)


def _table(rows: Sequence[TrialCost], known: SweepState) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial")
    table.add_column("config and seed")
    for title in ("parameters", "multiply-adds", "time"):
        table.add_column(title, justify="right")
    table.add_column("state")
    for row in rows[:_MOST_ROWS]:
        count = row.count
        table.add_row(
            row.trial.trial,
            f"{config_label(row.trial.values)} s{row.trial.seed}",
            f"{count.params:,}" if count else "",
            f"{count.macs:,}" if count and count.macs is not None else "",
            duration(row.seconds) if row.seconds is not None else "",
            planned_status(row.trial, known),
        )
    return table


def _totals(console: LiteralConsole, plan: Plan, rows: Sequence[TrialCost], known: SweepState) -> None:
    if len(rows) > _MOST_ROWS:
        console.print(f"… and {len(rows) - _MOST_ROWS} more")
    left = [row for row in rows if planned_status(row.trial, known) not in ("done", "stopped", "failed")]
    configs = len({row.trial.config for row in rows})
    console.print(
        f"\n{plural(len(rows), 'trial')} of {plural(configs, 'config')}, {len(left)} still to run; "
        f"judged by {and_join(f'{metric} ({mode})' for metric, mode in plan.objectives)}",
    )
    for line in _networks(rows):
        console.print(line, soft_wrap=True)
    for line in _data_lines(planned_sources(plan, (row.trial for row in rows[:_MOST_ROWS]))):
        console.print(line, soft_wrap=True)
    for line in resolvable_lines(plan):
        console.print(line, soft_wrap=True)
    _predict(console, plan, left)
    for remark in data_remarks(plan):
        console.print(f"data: {remark}", style="yellow", soft_wrap=True)
    for note in range_notes(plan.sweep.space):
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    if known.trials:
        changes = compare_plan(plan, (row.trial for row in rows), known)
        console.print(f"beside what is there: {changes}")
    console.print(f"results {'lie' if known.trials else 'will lie'} in {plan.results_address}", soft_wrap=True)
    _note_changes(console, plan, known)


def _networks(rows: Sequence[TrialCost]) -> list[str]:
    """What networks the configs consist of, where they have several; each set of sizes once."""
    sizes = [row.count.parts for row in rows[:_MOST_ROWS] if row.count and row.count.parts]
    return list(
        dict.fromkeys("networks: " + ", ".join(f"{name} {count:,}" for name, count in parts.items()) for parts in sizes)
    )


def _data_lines(sources: Sequence[PlannedSource]) -> list[str]:
    """A line for each source, with its slot, key and counts, and whose labels its train split has."""
    lines = []
    for source in sources[:_MOST_SOURCES]:
        place = f"data.{source.slot}" if source.slot else "data"
        counts = ", ".join(f"{count:,} {split}" for split, count in source.samples.items()) or "not counted yet"
        line = f"{place}: {source.source} {source.key}: {counts}"
        if source.labels_from:
            line += f"; labels of train: data.labels_from {source.labels_from} leads to {source.labels_of}"
        lines.append(line)
    if len(sources) > _MOST_SOURCES:
        lines.append(f"data: and {len(sources) - _MOST_SOURCES} more")
    return lines


def _predict(console: LiteralConsole, plan: Plan, left: Sequence[TrialCost]) -> None:
    """Print what the rest will cost; it is kept with the results, whose report compares it with the actual cost."""
    made = forecast(plan, left)
    if made is None:
        return
    parts = [
        f"{range_text(made.wall, 's')} on this machine, {plural(plan.slots_here, 'trial')} at once",
        f"{range_text(made.device_hours, 'h')} of devices",
    ]
    if made.money is not None:
        parts.append(f"{range_text(made.money, '')} in money")
    if made.memory is not None:
        parts.append(f"{range_text(made.memory, 'B')} of memory at the peak of a rank")
    parts.append(f"{range_text(made.disk, 'B')} of checkpoints")
    console.print(f"expected: {'; '.join(parts)}")
    try:
        save_forecast(plan.folder, made)
    except StorageUnwritable as error:  # the plan is no worse without it
        console.print(
            f"note: {error}; the report will not compare it with what the sweep costs", style="yellow", soft_wrap=True
        )


def _note_changes(console: LiteralConsole, plan: Plan, known: SweepState) -> None:
    """Print for which reasons the sweep would refuse to go on."""
    for problem in continuation_problems(plan, known, user_modules(plan.loaded)):
        console.print(f"note: {problem}", style="yellow", soft_wrap=True)
