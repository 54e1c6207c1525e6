"""Commands that begin, plan and train: init, plan, train, sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expflow.cli.completion import complete_experiment_file
from expflow.cli.options import AsJson, File, Sets, Storage

if TYPE_CHECKING:
    from expflow.sweep.plan import Plan

Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Start anew beside the old results, as NAME.2. Without it the newest go on."),
]
KeepResults = Annotated[
    bool, typer.Option("--keep-results", help="Count results as valid although code changed since they were made.")
]
Check = Annotated[
    bool,
    typer.Option(
        help="Train and validate one batch of each distinct network, once, so that what fails is known beforehand."
    ),
]
Salvage = Annotated[
    bool,
    typer.Option(
        "--salvage",
        help="Go on from what is whole of a damaged ledger (the record of a sweep), and keep the damaged one beside"
        " it.",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Serve metrics for Prometheus on this port while it works; 0: any free one. Without it the site file says"
        " whether.",
    ),
]
AsLines = Annotated[
    bool, typer.Option("--json", help="Print JSON objects, one a line: a handle, each event as it comes, the end.")
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="NAME/best",
        help="With --campaign: train this, too, on the same new seeds, and compare.",
        show_default=False,
    ),
]
Campaign = Annotated[
    str | None, typer.Option(metavar="NAME", help="The campaign that the try counts in.", show_default=False)
]
ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="Of a try: leave with 0 better, 10 not better, 11 not resolved.")
]
Margin = Annotated[
    float | None,
    typer.Option(help="By how much a try must be better to be of interest (shares: 0.01).", show_default=False),
]

FileOrTrial = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="The experiment file; with --check the address of a finished trial, NAME/3fa9.",
        show_default=False,
        autocompletion=complete_experiment_file,
    ),
]
CheckTrial = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Train a finished trial again, in a temporary folder, and say whether reports and weights are equal bit"
        " for bit, else from which step on and by how much, and what else differs. --set changes resources alone."
        " Leaves with 1 where something differs.",
    ),
]
FromStep = Annotated[
    int | None,
    typer.Option(
        "--from", metavar="STEP", help="With --check: begin at its checkpoint of this step.", min=1, show_default=False
    ),
]
ChangedCode = Annotated[
    str,
    typer.Option(
        metavar="new|keep|fresh",
        help="Where code changed since results were made: `new` gives this code results of its own (NAME+code=...),"
        " `keep` does as --keep-results, `fresh` as --fresh. Where nothing changed it does nothing.",
        show_default=False,
    ),
]

_group = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add this group's commands.

    Args:
        app: The command line's app.
    """
    app.registered_commands += _group.registered_commands


@_group.command()
def init(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Images, a folder for each class; by default scikit-learn's digits.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file; by default named by the folder, here.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a first experiment, with comments, that can be swept at once. No file is overwritten."""
    import shlex

    from expflow.api.starter import write_starter
    from expflow.cli.echo import echo
    from expflow.text import file_operand

    operand = file_operand(str(write_starter(folder, out)))
    if as_json:
        from expflow.cli.documents.printing import print_document
        from expflow.cli.documents.starter import starter_document

        print_document(starter_document(operand))
        return
    file = shlex.quote(operand)
    echo(f"wrote {file}; expflow plan {file} says what it will take, expflow sweep {file} runs it")


@_group.command()
def plan(
    file: File,
    set_: Sets = None,
    storage: Storage = None,
    time: Annotated[bool, typer.Option(help="Measure a few steps to estimate the time.")] = True,
    check: Check = True,
    as_json: AsJson = False,
) -> None:
    """List the trials, what each costs and how long it will take. Starts nothing."""
    from expflow.sweep.plan import make_plan

    if as_json:
        from expflow.cli.views.programs import print_plan

        print_plan(make_plan(file, set_ or (), storage=storage), measure=time, check=check)
        return
    from expflow.cli.views.plan import show_plan

    show_plan(make_plan(file, set_ or (), storage=storage), measure=time, check=check)


@_group.command()
def train(
    file: FileOrTrial,
    set_: Sets = None,
    storage: Storage = None,
    fresh: Fresh = False,
    keep_results: KeepResults = False,
    changed_code: ChangedCode = "",
    salvage: Salvage = False,
    metrics_port: MetricsPort = None,
    check: CheckTrial = False,
    from_: FromStep = None,
    as_json: AsLines = False,
) -> None:
    """Train the base recipe once, with seed 0, in this process: no sweep, no Ray.

    With --check: train a finished trial again, in a temporary folder, and say whether it gives the same.
    """
    from expflow.api.tracked_run import TrackedRun
    from expflow.cli.views.run import run_and_show
    from expflow.sweep.in_process import run_in_process

    if check:
        from expflow.cli.views.trial_check import check_and_show

        given = {"--fresh": fresh, "--keep-results": keep_results, "--changed-code": bool(changed_code)}
        _refuse(
            {**given, "--salvage": salvage, "--metrics-port": metrics_port is not None},
            "and --check do not go together",
        )
        check_and_show(file, set_ or (), storage, from_, as_json=as_json)
    _refuse({"--from": from_ is not None}, "needs --check")
    made = _plan(
        Path(file), set_, storage, alone=True, fresh=fresh, changed_code=changed_code, salvage=salvage, quiet=as_json
    )
    keep = _keeps(keep_results, fresh, changed_code)
    run = TrackedRun(made, run_in_process, keep_results=keep, retry_failed=True, metrics_port=metrics_port)
    run_and_show(run, report=False, as_json=as_json)


@_group.command()
def sweep(
    file: File,
    set_: Sets = None,
    storage: Storage = None,
    fresh: Fresh = False,
    keep_results: KeepResults = False,
    changed_code: ChangedCode = "",
    salvage: Salvage = False,
    retry: Annotated[str, typer.Option(help="`failed`: also run again the trials that failed.")] = "",
    check: Check = True,
    metrics_port: MetricsPort = None,
    against: Against = None,
    campaign: Campaign = None,
    margin: Margin = None,
    exit_code: ExitCode = False,
    as_json: AsLines = False,
) -> None:
    """Run the whole search, here or on the Ray cluster of this job, and show what it says.

    Running the same command again continues what is unfinished and repeats nothing that is done.
    """
    from dataclasses import replace

    again, keep = _retries(retry), _keeps(keep_results, fresh, changed_code)
    if against is not None or campaign is not None:
        from expflow.api.campaign_run import TryCall
        from expflow.cli.views.campaign import try_and_show

        _refuse_in_try(fresh=fresh, keep_results=keep_results, changed_code=changed_code, salvage=salvage)
        call = TryCall(file, set_ or (), against, campaign, margin, storage, changed_code, check)
        try_and_show(call, retry_failed=again, metrics_port=metrics_port, exit_code=exit_code, as_json=as_json)
    _refuse({"--margin": margin is not None, "--exit-code": exit_code}, _TRY_ALONE)
    made = _plan(file, set_, storage, fresh=fresh, changed_code=changed_code, salvage=salvage, quiet=as_json)
    plan = replace(made, check=check)
    _sweep(plan, keep_results=keep, retry_failed=again, metrics_port=metrics_port, as_json=as_json)


def _sweep(plan: Plan, *, keep_results: bool, retry_failed: bool, metrics_port: int | None, as_json: bool) -> None:
    """Run a plan on Ray; while its template imports torch, this process imports what shows it, half a second."""
    from expflow.sweep.driver import new_template

    with new_template(plan) as template:
        from expflow.cli.views.run import sweep_and_show

        sweep_and_show(
            plan,
            template,
            keep_results=keep_results,
            retry_failed=retry_failed,
            metrics_port=metrics_port,
            as_json=as_json,
        )


def _retries(retry: str) -> bool:
    from expflow.errors import UserError

    if retry not in ("", "failed"):
        raise UserError(f"--retry {retry}: only `failed` can be tried again")
    return retry == "failed"


def _refuse_in_try(*, fresh: bool, keep_results: bool, changed_code: str, salvage: bool) -> None:
    keeps = {"--keep-results": keep_results, "--changed-code keep": changed_code == "keep"}
    _refuse({"--fresh": fresh, **keeps, "--salvage": salvage}, _NO_TRY)


_TRY_ALONE = "belongs to a try; add --against and --campaign"
_NO_TRY = (
    "is not for a try: its trials count for the code and the seeds that it was declared with. Where code has changed,"
    " --changed-code new or fresh says where its results go; a damaged ledger is salvaged by a sweep of its own file"
)


def _refuse(options: dict[str, bool], why: str) -> None:
    """Refuse options that were given where they mean nothing."""
    from expflow.errors import UserError

    if given := [option for option, is_given in options.items() if is_given]:
        raise UserError(f"{' and '.join(given)} {why}")


def _keeps(keep_results: bool, fresh: bool, changed_code: str) -> bool:
    """Whether results of other code count."""
    if changed_code:
        _refuse({"--fresh": fresh, "--keep-results": keep_results}, "and --changed-code say the same: leave one out")
    return keep_results or changed_code == "keep"


def _plan(
    file: Path,
    sets: list[str] | None,
    storage: str | None,
    *,
    alone: bool = False,
    fresh: bool,
    changed_code: str,
    salvage: bool,
    quiet: bool,
) -> Plan:
    """A plan, with its ledger salvaged where that is asked for."""
    from expflow.sweep.changed_code import plan_for_code

    if salvage:
        from expflow.cli.views.run import salvage_and_show
        from expflow.sweep.plan import make_plan

        salvage_and_show(make_plan(file, sets or (), storage=storage, alone=alone, fresh=fresh), quiet=quiet)
    return plan_for_code(file, sets or (), storage=storage, alone=alone, fresh=fresh, answer=changed_code)
