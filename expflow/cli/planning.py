"""How a plan is shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from expflow.cli.live import seconds_text
from expflow.config.foreign import user_modules
from expflow.errors import CodeChanged, DataMissing, UserError
from expflow.ledger import SweepState, exists, load
from expflow.report.costs import range_text
from expflow.report.words import config_label, plural
from expflow.sweep.difference import difference, refuse_extension, standing
from expflow.sweep.estimate import Row, check_builds, with_times
from expflow.sweep.forecast import forecast, save
from expflow.sweep.plan import Plan
from expflow.sweep.provenance import check_code

_MOST_ROWS = 60


def show_plan(plan: Plan, *, measure: bool) -> None:
    """Print the plan's trials with parameters, multiply-adds, and the estimated time.

    Raises DataMissing where the data are not there, after printing what is known without them.
    """
    console = Console()
    about = plan.loaded.experiment.about
    if about.question:
        console.print(about.question, style="bold", highlight=False)
    try:
        rows = check_builds(plan)
    except DataMissing:
        with suppress(DataMissing):  # the same again, where nothing is published of them
            supposing = replace(plan, supposing=True, _prepared={})
            _show(console, supposing, check_builds(supposing))
        raise
    if measure:
        with console.status("measuring a few steps"):
            rows = with_times(plan, rows)
    _show(console, plan, rows)


def _show(console: Console, plan: Plan, rows: Sequence[Row]) -> None:
    known = load(plan.folder) if exists(plan.folder) else SweepState()
    console.print(_table(rows, known))
    _totals(console, plan, rows, known)


def _table(rows: Sequence[Row], known: SweepState) -> Table:
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
            seconds_text(row.seconds) if row.seconds is not None else "",
            standing(row.trial, known),
        )
    return table


def _totals(console: Console, plan: Plan, rows: Sequence[Row], known: SweepState) -> None:
    if len(rows) > _MOST_ROWS:
        console.print(f"… and {len(rows) - _MOST_ROWS} more", highlight=False)
    left = [row for row in rows if standing(row.trial, known) not in ("done", "stopped", "failed")]
    configs = len({row.trial.config for row in rows})
    console.print(
        f"\n{plural(len(rows), 'trial')} of {plural(configs, 'config')}, {len(left)} still to run; "
        f"judged by {plan.metric} ({plan.mode})",
        highlight=False,
    )
    _predict(console, plan, left)
    if known.trials:
        changes = difference(plan, (row.trial for row in rows), known)
        console.print(f"beside what is there: {changes}", highlight=False)
    console.print(f"results {'lie' if known.trials else 'will lie'} in {plan.folder}", highlight=False, soft_wrap=True)
    _note_changes(console, plan, known)


def _predict(console: Console, plan: Plan, left: Sequence[Row]) -> None:
    """What is left will cost so much; kept with the results, whose report puts beside it what it did cost."""
    made = forecast(plan, left)
    if made is None:
        return
    save(plan.folder, made)
    said = [
        f"{range_text(made.wall, 's')} on this machine, {plural(plan.slots_here, 'trial')} at once",
        f"{range_text(made.device_hours, 'h')} of devices",
    ]
    if made.money is not None:
        said.append(f"{range_text(made.money, '')} in money")
    if made.memory is not None:
        said.append(f"{range_text(made.memory, 'B')} of memory at the peak of a rank")
    said.append(f"{range_text(made.disk, 'B')} of checkpoints")
    console.print(f"expected: {'; '.join(said)}", highlight=False)


def _note_changes(console: Console, plan: Plan, known: SweepState) -> None:
    """Say what the sweep will stop at."""
    if known.header is None or not known.trials:
        return
    before = known.header
    try:
        check_code(before.code, user_modules(plan.loaded), before.versions.get("expflow", ""), plan.name)
        refuse_extension(plan, known)
    except (CodeChanged, UserError) as error:
        console.print(f"note: {error}", style="yellow", highlight=False, soft_wrap=True)
