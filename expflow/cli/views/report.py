"""How answers and leaderboards are shown on the terminal."""

from __future__ import annotations

from expflow.errors import StorageUnwritable
from expflow.ledger import SweepState
from expflow.live.console import LiteralConsole, literal
from expflow.report import ReportFiles, terminal_text, write_report
from expflow.sweep.result_location import find_results
from expflow.sweep.storage_place import storage_words
from expflow.text import command_line, relative


def show_report(name: str, storage: str | None) -> None:
    """Write the report of an experiment and print its conclusions.

    Args:
        name: Address of the experiment.
        storage: The folder of all results; None: the site's.

    Raises:
        StorageUnwritable: The page cannot be written; the conclusions are printed before.
    """
    location = find_results(name, storage)
    files = write_report(location.folder, location.state)
    show_answer(LiteralConsole(), location.state, files)
    if files.unwritable:
        raise StorageUnwritable(files.unwritable)


def show_page(console: LiteralConsole, files: ReportFiles) -> None:
    """Print where the page of a report lies, or why it was not written.

    Args:
        console: Where it is printed.
        files: The report.
    """
    if files.unwritable:
        console.print(files.unwritable, style="yellow", soft_wrap=True)
    else:
        console.print(f"report   {relative(files.html)}", soft_wrap=True)


def show_answer(console: LiteralConsole, state: SweepState, files: ReportFiles) -> None:
    """Print leaderboard and answers, and where the files lie.

    Args:
        console: Where it is printed.
        state: What the ledger adds up to.
        files: The report that was written.
    """
    console.print(literal(terminal_text(files.view, width=console.width)), soft_wrap=True)
    console.print()
    for figure in files.figures:
        if figure.suffix == ".png":
            console.print(f"figure   {relative(figure)}", soft_wrap=True)
    show_page(console, files)
    if state.header is not None:
        command = command_line("ui", state.header.name, *storage_words(files.html.parent.parent))
        console.print(f"compare  {command}", soft_wrap=True)
