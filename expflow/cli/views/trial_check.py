"""What ``train NAME/ID --check`` prints: whether the same training again gives the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from expflow.cli.documents.check import check_document
from expflow.cli.documents.printing import print_document
from expflow.live.console import LiteralConsole
from expflow.metrics import number
from expflow.report.formatting import plural
from expflow.report.terminal import aligned_table
from expflow.report.text_table import TableColumn, TextTable
from expflow.sweep.result_location import find_results
from expflow.sweep.trial_check import TrialComparison, check_trial


def check_and_show(name: str, sets: Sequence[str], storage: str | None, begin: int | None, *, as_json: bool) -> None:
    """Train a finished trial again and print what differs; leaves with 1 where something does.

    Args:
        name: Address of the trial.
        sets: ``--set`` arguments that change its resources.
        storage: The folder of all results; None: the site's.
        begin: The step of the checkpoint that it begins at; None: from the beginning.
        as_json: Whether JSON is printed.
    """
    location = find_results(name, storage)
    comparison = check_trial(location, sets=sets, begin=begin)
    document = check_document(location.name, comparison)
    if as_json:
        print_document(document)
    else:
        _print(location.name, comparison)
    raise typer.Exit(document.exit_code)


def _print(name: str, comparison: TrialComparison) -> None:
    console = LiteralConsole()
    begun = f" from step {comparison.began} on" if comparison.began else ""
    head = f"{name}/{comparison.trial}, trained again{begun}: "
    reports = plural(comparison.steps, "report")
    if comparison.equal:
        same = "and the weights are equal, bit for bit"
        if comparison.weights_equal is None:
            same = "are equal, bit for bit; no weights were recorded"
        console.print(f"{head}{reports} {same}", style="bold", soft_wrap=True)
    else:
        console.print(head + "; ".join(_what_differs(comparison, reports)), style="bold", soft_wrap=True)
    if comparison.metrics:
        console.print(aligned_table(_metrics_table(comparison)), soft_wrap=True)
    for what, (then, now) in comparison.surroundings.items():
        console.print(f"{what} differs: {then} then, {now} now", soft_wrap=True)
    if not comparison.equal and not comparison.surroundings:
        console.print(
            "versions, threads and device are what was recorded: the training itself does not repeat (a clock, an order"
            " of threads, another kind of CPU)",
            soft_wrap=True,
        )


def _what_differs(comparison: TrialComparison, reports: str) -> Iterator[str]:
    if comparison.first_step is not None:
        yield f"reports differ from step {comparison.first_step} on"
    else:
        yield f"{reports} are equal, bit for bit"
    if comparison.weights_equal is False:
        over = comparison.weights
        if over is None:
            yield "weights differ (by how much cannot be said: no checkpoint of the last step was kept)"
        else:
            yield (
                f"weights differ in {over.tensors} of {plural(over.of, 'tensor')}, by {number(over.largest)} at most;"
                f" relative to all weights by {number(over.relative)}"
            )


def _metrics_table(comparison: TrialComparison) -> TextTable:
    titles = ("from step", "recorded", "again", "largest difference")
    columns = (TableColumn("metric", "left"), *(TableColumn(title) for title in titles))
    rows = (
        (
            difference.metric,
            str(difference.first_step),
            *("-" if value is None else repr(value) for value in (difference.recorded, difference.again)),
            "-" if difference.largest is None else number(difference.largest),
        )
        for difference in comparison.metrics
    )
    return TextTable(columns, tuple(rows))
