"""What a campaign's try and ``report --campaign`` print."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from expflow.api.campaign_run import FinishedTry, PlannedTry, TryCall, plan_try, run_try
from expflow.api.tracked_run import TrackedRun
from expflow.cli.documents.campaign import campaign_document
from expflow.cli.documents.printing import print_document, print_line
from expflow.cli.documents.run import EventPrinter, started_line
from expflow.errors import AddressUnknown
from expflow.live.console import LiteralConsole
from expflow.live.table import LiveTable
from expflow.metrics import number
from expflow.report.campaign import EXIT_CODES, CampaignRecord, CampaignTry
from expflow.report.formatting import difference_value, p_value, percent, plural
from expflow.report.terminal import aligned_table
from expflow.report.text_table import TableColumn, TextTable
from expflow.sweep import driver
from expflow.sweep.cost_estimate import check_builds, relative_costs
from expflow.sweep.plan import Plan
from expflow.sweep.result_location import storage_root
from expflow.sweep.trial_expansion import expected_trials

_WORDS = {"better": "better", "not_better": "not better", "not_resolved": "not resolved"}


def try_and_show(
    call: TryCall, *, retry_failed: bool, metrics_port: int | None, exit_code: bool, as_json: bool
) -> None:
    """Train a candidate and its reference on the same new seeds, and say whether it is better.

    Args:
        call: What is tried, and against what.
        retry_failed: Whether trials of either that failed are run again.
        metrics_port: Port for Prometheus; None leaves it to the site file.
        exit_code: Whether the exit code says the verdict: 0, 10 or 11.
        as_json: Whether JSON objects are printed, one a line.
    """
    planned, campaign = plan_try(call), call.campaign or ""
    if not as_json:
        _print_start(planned, campaign)

    def train(plan: Plan) -> None:
        run = TrackedRun(plan, driver.run_sweep, retry_failed=retry_failed, metrics_port=metrics_port)
        _train(plan, run, as_json=as_json)

    finished = run_try(planned, campaign, train)
    tries = tuple(CampaignRecord(planned.storage, campaign).tries())
    if as_json:
        print_line(campaign_document(campaign, tries, finished.attempt, finished.answered_from, finished.notes))
    else:
        _print_end(finished)
    result = finished.attempt.result
    raise typer.Exit(EXIT_CODES[result.verdict] if exit_code and result is not None else 0)


def _train(plan: Plan, run: TrackedRun, *, as_json: bool) -> None:
    rows = check_builds(plan)
    total = max(len(rows), expected_trials(plan))
    if as_json:
        print_line(started_line(plan, total))
        run.run((EventPrinter(),), report=True)
    else:
        progress = LiveTable(LiteralConsole(), plan.metric, plan.mode, total, relative_costs(rows))
        with progress:
            run.run((progress,), report=True)
    run.catch_up()


def _print_start(planned: PlannedTry, campaign: str) -> None:
    attempt = planned.attempt
    LiteralConsole().print(
        f"try {attempt.number} of {campaign}: {attempt.name} against {attempt.reference} on "
        f"{plural(len(attempt.seeds), 'new seed')} ({', '.join(map(str, attempt.seeds))}), at a level of "
        f"{percent(attempt.level)}",
        soft_wrap=True,
    )


def _print_end(finished: FinishedTry) -> None:
    console, attempt = LiteralConsole(), finished.attempt
    result = attempt.result
    if result is None:
        return
    for name in finished.answered_from:
        console.print(f"{name} had trials of it already: they were not trained again", soft_wrap=True)
    for note in finished.notes:
        console.print(note, soft_wrap=True)
    where = {"these_images": " on these images", "other_images": " on other images, too", "no_images": ""}
    scope = where[result.holds_for] if result.verdict == "better" else ""
    p = "" if result.p is None else f", one-sided p {p_value(result.p)} at a level of {percent(attempt.level)}"
    console.print(
        f"{_WORDS[result.verdict]}{scope}: {attempt.metric} of {attempt.name} less that of {attempt.reference} "
        f"{difference_value(attempt.metric, result.difference)} (as of more is better), "
        f"n = {plural(result.n, 'seed')}{p}",
        style="bold",
        soft_wrap=True,
    )
    if result.seeds_needed is not None and result.seeds_needed.middle is not None:
        console.print(f"about {result.seeds_needed.middle} seeds would resolve such a difference")


def show_campaign(campaign: str, storage: str | None, *, as_json: bool) -> None:
    """Print the tries of a campaign.

    Args:
        campaign: Its name.
        storage: The folder of all results; None: the site's.
        as_json: Whether JSON is printed.

    Raises:
        AddressUnknown: There is no such campaign.
    """
    record = CampaignRecord(storage_root(storage), campaign)
    tries = tuple(record.tries())
    if not tries:
        raise AddressUnknown(
            f"no campaign {campaign} in {record.path.parent}; `expflow sweep FILE --against` begins one"
        )
    if as_json:
        print_document(campaign_document(campaign, tries))
        return
    LiteralConsole().print(aligned_table(_table(tries)), soft_wrap=True)


def _table(tries: Sequence[CampaignTry]) -> TextTable:
    columns = tuple(
        TableColumn(title, "left") for title in ("#", "try", "against", "seeds", "verdict", "difference", "p", "level")
    )
    return TextTable((*columns, TableColumn("hypothesis", "left")), tuple(_cells(attempt) for attempt in tries))


def _cells(attempt: CampaignTry) -> tuple[str, ...]:
    result = attempt.result
    return (
        str(attempt.number),
        attempt.name,
        attempt.reference,
        str(len(attempt.seeds)),
        _WORDS[result.verdict] if result is not None else "not trained",
        difference_value(attempt.metric, result.difference) if result is not None else "",
        number(result.p) if result is not None and result.p is not None else "",
        percent(attempt.level),
        attempt.hypothesis,
    )
