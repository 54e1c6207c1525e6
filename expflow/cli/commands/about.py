"""Commands about expflow itself: doctor, schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

_group = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add this group's commands.

    Args:
        app: The command line's app.
    """
    app.registered_commands += _group.registered_commands


@_group.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the check that imports torch.")] = False,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="CLUSTER",
            help="Check a cluster instead of this machine: its versions beside those that the project is locked to.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Say what is installed and reachable, what is missing, and how to mend it."""
    from expflow.cli.views.doctor import show_checks

    raise typer.Exit(3 if show_checks(quick=quick, on=on, as_json=as_json) == "fail" else 0)


@_group.command()
def schema(
    of: Annotated[
        str | None,
        typer.Option(
            metavar="DOCUMENT",
            help="The schema of what a command answers with --json: report, status, storage, result, comparison, code, "
            "plan, started, event, ended, check, campaign, log, output, data, init, submitted, job, jobs, models, "
            "model, compared_models, doctor, error.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Errors as JSON, too; schemas always are.")] = False,
) -> None:
    """Print the JSON schema of experiment files, from which editors complete and check; or that of an answer."""
    from expflow.cli.echo import echo

    if of is not None:
        from expflow.cli.documents.schemas import document_schema

        echo(json.dumps(document_schema(of), indent=2))
        return
    from expflow.config.jsonschema import json_schema

    echo(json.dumps(json_schema(), indent=2))
