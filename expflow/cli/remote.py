"""Commands that talk to a Ray cluster: submit, stop, and the cluster's part of logs and status."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from expflow.cli.options import File, RayAddress, Sets, Storage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(submit)
    app.command()(stop)


def submit(
    file: File,
    address: RayAddress = None,
    set_: Sets = None,
    storage: Storage = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job and leave with its exit code.")] = False,
) -> None:
    """Run the whole search on a Ray cluster: send the project there and start `expflow sweep`."""
    from expflow import cluster
    from expflow.sweep.plan import make_plan

    made = make_plan(file, set_ or (), storage=storage, elsewhere=True)
    where = cluster.resolve_address(address, made.site.ray)
    sent = cluster.submit(file, name=made.name, storage=str(made.storage), address=where, sets=set_ or ())
    what = "runs already, nothing new was started" if sent.already else f"{sent.package.files} files sent"
    typer.echo(f"job {sent.job} at {sent.address}: {what}; results go to {made.folder}")
    typer.echo(_how_to(sent.job, sent.address))
    if wait:
        job_logs(sent.job, address=sent.address, follow=True)


def stop(
    job: Annotated[str, typer.Argument(help="The job's name, as submit printed it.", show_default=False)],
    address: RayAddress = None,
) -> None:
    """Ask a cluster job to save and end. The same submit goes on from there."""
    from expflow import cluster

    before = cluster.stop(job, _resolved(address))
    if before.over:
        typer.echo(f"job {job} was over already: {before.status}")
    else:
        typer.echo(f"job {job} was asked to save and end; the same submit continues it")


def is_job(what: str, address: str | None) -> bool:
    """Whether ``logs`` is asked for a cluster job: the name has a job's form, or an address was given."""
    from expflow import cluster

    return address is not None or cluster.looks_like_job(what)


def job_logs(job: str, *, address: str | None = None, follow: bool = False) -> None:
    """Print what a job printed. With ``follow``, until it is over; then leave with its exit code."""
    from expflow import cluster

    where = _resolved(address)
    if not follow:
        _write(cluster.logs(job, where))
        return
    try:
        over = cluster.follow(job, _write, where)
    except KeyboardInterrupt:
        typer.echo(f"\nthe job goes on without us. {_how_to(job, where)}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"job {job}: {over.status}", err=True)
    if over.status == "FAILED" and over.driver_exit_code is None and over.message:
        typer.echo(f"error: {over.message}", err=True)
    raise typer.Exit(over.exit_code)


def list_jobs(address: str | None = None) -> None:
    """Print the jobs of a cluster, the latest first."""
    from rich.console import Console
    from rich.table import Table

    from expflow import cluster

    where = _resolved(address)
    table = Table("job", "state", "started", "experiment", box=None, pad_edge=False, header_style="bold")
    for job in cluster.jobs(where):
        table.add_row(job.id, job.status, ago(job.started), job.experiment)
    if not table.row_count:
        typer.echo(f"no job was submitted to {where}")
        return
    Console(width=1_000).print(table)  # never cut, on any terminal: a job's name is there to be copied


def ago(moment: float) -> str:
    """How long ago ``moment`` (unix seconds) was, in words; "" for 0."""
    if not moment:
        return ""
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _resolved(address: str | None) -> str:
    from expflow import cluster
    from expflow.config import load_site

    return cluster.resolve_address(address, None if address else load_site().ray)


def _how_to(job: str, address: str) -> str:
    return (
        f"follow it:  expflow logs {job} --follow --address {address}\n"
        f"stop it:    expflow stop {job} --address {address}"
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
