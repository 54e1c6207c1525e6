"""Commands that look at results: status, logs, report, show, test, ui."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expflow.cli.options import MaybeResult, RayAddress, Result, Storage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (status, logs, report, show):
        app.command()(command)
    app.command("test")(look_at_test)  # a function of that name would be one of pytest's
    app.command()(ui)


def status(
    name: MaybeResult = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch until the driver ends.")] = False,
    storage: Storage = None,
    address: RayAddress = None,
) -> None:
    """What is running, done and failed, as the ledger has it.

    Without a name all experiments are listed; with --address alone, the jobs of that Ray cluster.
    """
    from expflow.cli import looking

    if address and name is None:
        from expflow.cli.remote import list_jobs

        list_jobs(address)
    elif name is None:
        looking.show_all(storage)
    else:
        looking.show_status(name, storage, follow=follow)


def logs(
    what: Annotated[str, typer.Argument(help="NAME/3fa9 (a trial), or a Ray job.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing as it grows.")] = False,
    storage: Storage = None,
    address: RayAddress = None,
) -> None:
    """Print a trial's log, or a cluster job's."""
    from expflow.cli.remote import is_job, job_logs

    if is_job(what, address):
        job_logs(what, address=address, follow=follow)
        return
    from expflow.cli.looking import show_log

    show_log(what, storage, follow=follow)


def report(name: Result, storage: Storage = None) -> None:
    """Print the leaderboard and the answers, and write the HTML report."""
    from expflow.cli.looking import show_report

    show_report(name, storage)


def show(
    name: Result,
    filters: Annotated[
        bool, typer.Option("--filters", help="Draw the first layer's filters, or a linear classifier's templates.")
    ] = False,
    confusion: Annotated[bool, typer.Option("--confusion", help="Draw the confusion matrix on val.")] = False,
    worst: Annotated[
        bool, typer.Option("--worst", help="Draw the best, worst and most confidently wrong predictions on val.")
    ] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the mean of the seeds' probabilities on val.")
    ] = False,
    soup: Annotated[bool, typer.Option("--soup", help="Measure means of the seeds' weights on val.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the pictures there.", show_default=False)
    ] = None,
    storage: Storage = None,
) -> None:
    """Show one result and its recipe, NAME/best or NAME/3fa9; or what is inside of it, as pictures."""
    if ensemble or soup:
        from expflow.cli.testing import show_on_val

        show_on_val(name, storage, ensemble=ensemble, soup=soup)
    if filters or confusion or worst:
        from expflow.cli.testing import show_pictures

        show_pictures(name, storage, out, filters=filters, confusion=confusion, worst=worst)
    if not (ensemble or soup or filters or confusion or worst):
        from expflow.cli.looking import show_result

        show_result(name, storage)


def look_at_test(
    name: Result,
    again: Annotated[
        bool, typer.Option("--again", help="Look although the test split was looked at before; this look is counted.")
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Another config than the selected one, by the first characters of its id.",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Also the mean of the seeds' probabilities.")] = False,
    soup: Annotated[
        bool, typer.Option("--soup", help="Also the mean of the seeds' weights, uniform and greedy.")
    ] = False,
    members: Annotated[
        str, typer.Option(help="Whom an ensemble or a soup is made of: `config` (its seeds) or `all` finished trials.")
    ] = "config",
    storage: Storage = None,
) -> None:
    """Evaluate the selected config, all its seeds, on the test split, once.

    Every look is recorded with its date and numbers. The test set is for the number that one quotes.
    """
    from expflow.cli.testing import show_test

    show_test(name, storage, again=again, config=config, ensemble=ensemble, soup=soup, members=members)


def ui(
    name: MaybeResult = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=0, max=65535)] = 5000,
    storage: Storage = None,
) -> None:
    """Open the MLflow UI on the results; only this machine can reach it. Ctrl-C ends it.

    With a name, the link that compares its configs is printed too.
    """
    from expflow.cli.looking import show_ui

    show_ui(name, port, storage)
