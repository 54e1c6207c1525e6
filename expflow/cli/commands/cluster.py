"""Commands that talk to a cluster: submit, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expflow.cli.completion import complete_experiment_file
from expflow.cli.options import AsJson, On, RayAddress, Sets, Storage

_group = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add this group's commands.

    Args:
        app: The command line's app.
    """
    app.registered_commands += _group.registered_commands


@_group.command()
def submit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="The experiment file; several are one job array on Slurm.",
            show_default=False,
            autocompletion=complete_experiment_file,
        ),
    ],
    on: On = None,
    address: RayAddress = None,
    set_: Sets = None,
    storage: Storage = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job and leave with its exit code.")] = False,
    fetch: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Wait, and then bring the results home, into this folder of results.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole search on a cluster: send the project there and start `expflow sweep`."""
    from expflow.cli.views.cluster import submit_sweeps

    submit_sweeps(
        files, sets=set_ or (), storage=storage, on=on, address=address, wait=wait, fetch=fetch, as_json=as_json
    )


@_group.command()
def stop(
    job: Annotated[str, typer.Argument(help="The job's name, as submit printed it.", show_default=False)],
    on: On = None,
    address: RayAddress = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Ask a cluster job to save and end. The same submit goes on from there."""
    from expflow.cli.echo import echo
    from expflow.cli.views.cluster import chosen_launcher

    before = chosen_launcher(on, address, storage).stop(job)
    if as_json:
        from expflow.cli.documents.jobs import job_document
        from expflow.cli.documents.printing import print_document

        print_document(job_document(before))
    elif before.over:
        echo(f"job {job} was over already: {before.status}")
    else:
        echo(f"job {job} was asked to save and end; the same submit continues it")
