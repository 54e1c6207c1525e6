"""Commands that plan and train: plan, train, sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from expflow.cli.options import File, Sets, Storage

Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Start anew beside the old results, as NAME.2. Without it the newest go on."),
]
KeepResults = Annotated[
    bool, typer.Option("--keep-results", help="Count results as valid although code changed since they were made.")
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(plan)
    app.command()(train)
    app.command()(sweep)


def plan(
    file: File,
    set_: Sets = None,
    storage: Storage = None,
    time: Annotated[bool, typer.Option(help="Measure a few steps to estimate the time.")] = True,
) -> None:
    """List the trials, what each costs and how long it will take. Starts nothing."""
    from expflow.cli.planning import show_plan
    from expflow.sweep.plan import make_plan

    show_plan(make_plan(file, set_ or (), storage=storage), measure=time)


def train(
    file: File,
    set_: Sets = None,
    storage: Storage = None,
    fresh: Fresh = False,
    keep_results: KeepResults = False,
) -> None:
    """Train the base recipe once, with seed 0, in this process: no sweep, no Ray."""
    from expflow.cli.running import run
    from expflow.sweep.alone import run_alone
    from expflow.sweep.plan import make_plan

    made = make_plan(file, set_ or (), storage=storage, alone=True, fresh=fresh)
    run(made, run_alone, keep_results=keep_results, retry_failed=True, report=False)


def sweep(
    file: File,
    set_: Sets = None,
    storage: Storage = None,
    fresh: Fresh = False,
    keep_results: KeepResults = False,
    retry: Annotated[str, typer.Option(help="`failed`: also run again the trials that failed.")] = "",
) -> None:
    """Run the whole search, here or on the Ray cluster of this job, and show what it says.

    Running the same command again continues what is unfinished and repeats nothing that is done.
    """
    from expflow.cli.running import run
    from expflow.errors import UserError
    from expflow.sweep.driver import run_sweep
    from expflow.sweep.plan import make_plan

    if retry not in ("", "failed"):
        raise UserError(f"--retry {retry}: only `failed` can be tried again")
    made = make_plan(file, set_ or (), storage=storage, fresh=fresh)
    run(made, run_sweep, keep_results=keep_results, retry_failed=retry == "failed", report=True)
