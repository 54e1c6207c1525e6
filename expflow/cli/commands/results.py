"""Commands about results: status, logs, report, show, test, ui."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from expflow.cli.completion import complete_result_name
from expflow.cli.options import AsJson, MaybeResult, On, RayAddress, Result, Storage

_group = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add this group's commands.

    Args:
        app: The command line's app.
    """
    app.registered_commands += _group.registered_commands


@_group.command()
def status(
    name: MaybeResult = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch until the sweep's process ends.")] = False,
    sync: Annotated[bool, typer.Option("--sync", help="First bring MLflow up to the ledger.")] = False,
    as_json: AsJson = False,
    storage: Storage = None,
    on: On = None,
    address: RayAddress = None,
) -> None:
    """What is running, done and failed, as the record of each sweep (its ledger) has it.

    Without a name all experiments are listed; with --on or --address alone, the jobs of that cluster.
    """
    if (on or address) and name is None:
        from expflow.cli.views.cluster import list_jobs

        list_jobs(on, address, storage, as_json=as_json)
        return
    if sync:
        from expflow.cli.echo import echo
        from expflow.cli.views.tracking import sync_mlflow

        for line in sync_mlflow(name, storage):
            echo(line, err=as_json)
    if as_json:
        from expflow.cli.views.programs import print_status

        print_status(name, storage)
        return
    from expflow.cli.views.status import show_all, show_status

    if name is None:
        show_all(storage)
    else:
        show_status(name, storage, follow=follow)


@_group.command()
def logs(
    what: Annotated[str, typer.Argument(help="NAME/3fa9 (a trial), or a cluster job.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing as it grows.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON objects, one a line: a handle, then events and output as they come."),
    ] = False,
    storage: Storage = None,
    on: On = None,
    address: RayAddress = None,
) -> None:
    """Print a trial's log, or a cluster job's."""
    from expflow.cli.views.cluster import is_job, job_logs

    if is_job(what, on, address):
        job_logs(what, on=on, address=address, storage=storage, follow=follow, as_json=as_json)
        return
    from expflow.cli.views.trial_log import show_log

    show_log(what, storage, follow=follow, as_json=as_json)


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME...",
        help="NAME or file; of several (also NAME/best, NAME/3fa9, mlflow:RUN_ID) a comparison.",
        show_default=False,
        autocompletion=complete_result_name,
    ),
]
OfCampaign = Annotated[
    str | None, typer.Option("--campaign", metavar="NAME", help="List the tries of a campaign.", show_default=False)
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="A comparison as a Markdown table.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="A comparison as CSV.")]
AsLatex = Annotated[bool, typer.Option("--latex", help="A comparison as a LaTeX table.")]


@_group.command()
def report(
    names: Names = None,
    campaign: OfCampaign = None,
    markdown: AsMarkdown = False,
    csv: AsCsv = False,
    latex: AsLatex = False,
    as_json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Print the leaderboard and the answers, and write the HTML report; or compare several results."""
    if campaign is not None:
        from expflow.cli.views.campaign import show_campaign

        show_campaign(campaign, storage, as_json=as_json)
        return
    if not names:
        raise typer.BadParameter("say which results: NAME, or a file", param_hint="NAME")
    form = _form({"markdown": markdown, "csv": csv, "latex": latex, "json": as_json})
    if len(names) > 1:
        from expflow.cli.views.comparison import show_comparison_of

        show_comparison_of(names, storage, form)
    elif form == "json":
        from expflow.cli.views.programs import print_report

        print_report(names[0], storage)
    elif form == "text":
        from expflow.cli.views.report import show_report

        show_report(names[0], storage)
    else:
        raise typer.BadParameter(f"--{form} is for a comparison of several results")


def _form(asked: dict[str, bool]) -> str:
    """The one form that was asked for; ``text`` where none was."""
    wanted = [form for form, is_wanted in asked.items() if is_wanted]
    if len(wanted) > 1:
        raise typer.BadParameter(f"choose one of --{' and --'.join(wanted)}")
    return wanted[0] if wanted else "text"


Other = Annotated[
    str | None,
    typer.Argument(
        help="A second result: print in what the two recipes differ, and the code.",
        show_default=False,
        autocompletion=complete_result_name,
    ),
]
Filters = Annotated[
    bool, typer.Option("--filters", help="Draw the first layer's filters, or a linear classifier's templates.")
]
Confusion = Annotated[bool, typer.Option("--confusion", help="Draw the confusion matrix on val.")]
Worst = Annotated[
    bool, typer.Option("--worst", help="Draw the best, worst and most confidently wrong predictions on val.")
]
TopPatchesOf = Annotated[
    str | None,
    typer.Option(
        "--top-patches",
        metavar="LAYER",
        help="Draw the nine patches of val that excite each feature map of a layer most, as far as it sees.",
        show_default=False,
    ),
]
Inverted = Annotated[
    str | None,
    typer.Option(
        "--invert",
        metavar="LAYER",
        help="Draw which pixels of these patches excite it, by guided backpropagation.",
        show_default=False,
    ),
]
Deconvnet = Annotated[
    bool, typer.Option("--deconvnet", help="With --invert: by the deconvnet of Zeiler and Fergus (2014) instead.")
]
DreamOf = Annotated[
    str | None,
    typer.Option(
        "--dream",
        metavar="CLASS|LAYER",
        help="Draw images that the network takes for a class, or in which a layer finds more.",
        show_default=False,
    ),
]
Attention = Annotated[
    bool,
    typer.Option(
        "--attention", help="Draw where a vision transformer looks, or what a sequence model reads as it writes."
    ),
]
EnsembleOnVal = Annotated[bool, typer.Option("--ensemble", help="Measure the mean of the seeds' probabilities on val.")]
Augment = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VIEWS",
        help="Average probabilities over views of each image: flip, scales=0.75,1,1.25 or windows=64 (pixels). May be"
        " given several times.",
        show_default=False,
    ),
]
SoupOnVal = Annotated[bool, typer.Option("--soup", help="Measure means of the seeds' weights on val.")]
OfCode = Annotated[
    bool, typer.Option("--code", help="Print the source of your modules that it was made with, as it was then.")
]
OutFolder = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Also write the pictures, or the code, there.", show_default=False)
]


Register = Annotated[
    str | None,
    typer.Option(
        "--register",
        metavar="NAME[@ALIAS]",
        help="Put the network into MLflow's model registry: of the selected config that of its first seed.",
        show_default=False,
    ),
]


@_group.command()
def show(
    name: Result,
    other: Other = None,
    filters: Filters = False,
    confusion: Confusion = False,
    worst: Worst = False,
    top_patches: TopPatchesOf = None,
    invert: Inverted = None,
    deconvnet: Deconvnet = False,
    dream: DreamOf = None,
    attention: Attention = False,
    ensemble: EnsembleOnVal = False,
    soup: SoupOnVal = False,
    augment: Augment = None,
    code: OfCode = False,
    out: OutFolder = None,
    register_as: Register = None,
    as_json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Show one result and its recipe: the selected config's of NAME (as NAME/best does) or one trial's, NAME/3fa9."""
    inside = _inside(top_patches, invert, deconvnet, dream, attention)
    pictures, together = filters or confusion or worst or any(inside.values()), ensemble or soup or bool(augment)
    drawn = pictures or together or register_as is not None
    _check_show(out if not (pictures or code) else None, other if drawn or code else None, as_json and drawn)
    if code:
        from expflow.cli.views.code import show_code

        show_code(name, storage, out, as_json=as_json)
    elif other is not None or as_json:
        from expflow.cli.views.programs import show_recipe

        show_recipe(name, other, storage, as_json=as_json)
    elif not drawn:
        from expflow.cli.views.result import show_result

        show_result(name, storage)
    _show_together(name, storage, ensemble, soup, augment or [])
    _show_pictures(name, storage, out, inside, filters=filters, confusion=confusion, worst=worst)
    _register(name, register_as, storage)


def _inside(
    top_patches: str | None, invert: str | None, deconvnet: bool, dream: str | None, attention: bool
) -> dict[str, Any]:
    """What is drawn of the inside of the network, as arguments of ``InsidePictures``."""
    if deconvnet and invert is None:
        raise typer.BadParameter("it is a rule of --invert LAYER: say which layer", param_hint="--deconvnet")
    rule = {"invert_by": "deconvnet"} if deconvnet else {}
    return {"top_patches": top_patches, "invert": invert, "dream": dream, "attention": attention, **rule}


def _register(name: str, register_as: str | None, storage: str | None) -> None:
    if register_as is None:
        return
    from expflow.cli.views.registration import register_result

    register_result(name, register_as, storage)


def _show_pictures(name: str, storage: str | None, out: Path | None, inside: dict[str, Any], **others: bool) -> None:
    if not any((*inside.values(), *others.values())):
        return
    from expflow.cli.views.pictures import show_pictures
    from expflow.report.trial_pictures import InsidePictures

    show_pictures(name, storage, out, inside=InsidePictures(**inside), **others)


def _show_together(name: str, storage: str | None, ensemble: bool, soup: bool, augment: list[str]) -> None:
    if not (ensemble or soup or augment):
        return
    from expflow.cli.views.test_evaluation import show_on_val

    show_on_val(name, storage, ensemble=ensemble, soup=soup, augment=augment)


def _check_show(out: Path | None, other: str | None, as_json: bool) -> None:
    """Refuse what nothing would come of: each is set where it has no place beside the other options of ``show``."""
    from expflow.errors import UserError

    if out is not None:
        raise UserError(
            f"--out {out}: there is nothing to write; add --filters, --confusion, --worst, --top-patches, --invert,"
            " --dream, --attention or --code"
        )
    if other is not None or as_json:
        what = "--json" if as_json else f"a second result ({other})"
        raise UserError(
            f"{what} goes with no pictures, ensembles, soups, registrations or code; say it without these options"
        )


Again = Annotated[
    bool,
    typer.Option("--again", help="Evaluate although there was a test evaluation before; this one is counted, too."),
]
OtherConfig = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Another config than the selected one, by the first characters of its id.",
        show_default=False,
    ),
]
EnsembleOnTest = Annotated[bool, typer.Option("--ensemble", help="Also the mean of the seeds' probabilities.")]
SoupOnTest = Annotated[bool, typer.Option("--soup", help="Also the mean of the seeds' weights, uniform and greedy.")]
Members = Annotated[
    str, typer.Option(help="Whom an ensemble or a soup is made of: `config` (its seeds) or `all` finished trials.")
]


@_group.command("test")  # a function of that name would be one of pytest's
def evaluate_on_test(
    name: Result,
    again: Again = False,
    config: OtherConfig = None,
    ensemble: EnsembleOnTest = False,
    soup: SoupOnTest = False,
    members: Members = "config",
    augment: Augment = None,
    as_json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Evaluate the selected config, all its seeds, on the test split, once.

    Every test evaluation is recorded with its date and numbers. The test set is for the number that one quotes.
    """
    from expflow.cli.views.programs import print_test
    from expflow.cli.views.test_evaluation import show_test, tested_results
    from expflow.report.config_selection import evaluation_request

    location = tested_results(name, storage)
    request = evaluation_request(location, config, ensemble=ensemble, soup=soup, members=members, augment=augment or [])
    evaluate = print_test if as_json else show_test
    evaluate(location, request, again=again)


@_group.command()
def ui(
    name: MaybeResult = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=0, max=65535)] = 5000,
    storage: Storage = None,
) -> None:
    """Open the MLflow UI on the results; only this machine can reach it. Ctrl-C ends it.

    With a name, the link that compares its configs is printed too.
    """
    from expflow.cli.views.ui import show_ui

    show_ui(name, port, storage)
