"""What ``submit``, ``logs`` and ``status`` print of the jobs of a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from expflow.cli.documents.jobs import job_document, jobs_document, submitted_document
from expflow.cli.documents.log import LogDocument, OutputDocument
from expflow.cli.documents.printing import print_document, print_line
from expflow.cli.echo import echo, echo_output
from expflow.errors import UserError
from expflow.redaction import redacted
from expflow.storage.blob_store import is_address
from expflow.sweep.storage_place import fetch_whole, storage_folder, storage_text
from expflow.text import command_line

if TYPE_CHECKING:
    from expflow.cluster.launcher import ClusterJob, Launcher, Submission, SweepRequest
    from expflow.sweep.plan import Plan

LEFT_ALONE = 130
"""Exit code where the user stopped watching."""
WITH_RESULTS = (0, 1, 130, 143)
"""Exit codes of sweeps that began."""
MOST_OF_REASON = 100
"""Characters of a launcher's explanation in a table."""


def chosen_launcher(on: str | None, address: str | None, storage: str | None) -> Launcher:
    """The launcher that a command's options mean.

    Args:
        on: A cluster of the site file, or a launcher's name.
        address: A Ray head's address.
        storage: The folder of all results; None: the site's.
    """
    from expflow.cluster.launchers import choose_launcher
    from expflow.config import load_site

    site = load_site()
    return choose_launcher(site, on=on, address=address, storage=storage_text(storage_folder(storage, site)))


def submit_sweeps(
    files: Sequence[Path],
    *,
    sets: Sequence[str],
    storage: str | None,
    on: str | None,
    address: str | None,
    wait: bool,
    fetch: Path | None = None,
    as_json: bool = False,
) -> None:
    """Submit experiments, and say how to follow them.

    Args:
        files: The experiments' files.
        sets: The ``--set`` arguments.
        storage: The folder of all results; None: the experiment's or the site's.
        on: A cluster of the site file, or a launcher's name.
        address: A Ray head's address.
        wait: Whether to follow the job to its end, and to leave with its exit code.
        fetch: The folder of results into which the job's are brought after its end, which is waited for.
        as_json: Whether JSON objects are printed, one a line.

    Raises:
        UserError: Several jobs cannot be followed at once.
    """
    from expflow.cluster.launchers import choose_launcher
    from expflow.sweep.plan import make_plan

    if (wait or fetch) and len(files) > 1:
        raise UserError("--wait and --fetch follow one job: submit the experiments one by one, or leave it out")
    plans = [make_plan(file, sets, storage=storage, elsewhere=True) for file in files]
    launcher = choose_launcher(plans[0].site, on=on, address=address, storage=plans[0].storage_address)
    _check_before(launcher, files[0], plans[0], fetch)
    requests = [_request(file, plan, sets) for file, plan in zip(files, plans, strict=True)]
    sent = list(zip(launcher.submit(requests), plans, strict=True))
    _print_submissions(sent, launcher, as_json=as_json)
    if wait or fetch:
        _wait(launcher, sent[0][0].job, plans[0], fetch, as_json=as_json)


def _request(file: Path, plan: Plan, sets: Sequence[str]) -> SweepRequest:
    from expflow.cluster.launcher import SweepRequest

    return SweepRequest(file, plan.name, plan.storage_address, tuple(sets))


def _check_before(launcher: Launcher, file: Path, plan: Plan, fetch: Path | None) -> None:
    """Refuse results that could not be fetched, and say which versions of the cluster differ from the project's, as far
    as that is known before a job runs."""
    from expflow.cluster.project_package import project_folder
    from expflow.cluster.version_lock import locked_versions

    if fetch is not None and not is_address(plan.storage_address):  # a store is reached from here, too
        launcher.check_fetch(plan.storage_address)
    for machine, rows in launcher.differences_at_once(locked_versions(project_folder(file))).items():
        for row in rows:
            there = f"{row.there} on {machine}" if row.there else f"not installed on {machine}"
            echo(f"warning: {row.package} {there}, {row.locked} in the project", err=True)


def _wait(launcher: Launcher, job: str, plan: Plan, fetch: Path | None, *, as_json: bool) -> None:
    """Follow a job to its end, bring its results home where that was asked for, and leave with its exit code."""
    from expflow.cluster.result_fetching import copy_results

    code = _followed(launcher, job, plan.storage_address, as_json=as_json)
    if fetch is not None and code in WITH_RESULTS:
        target = fetch.absolute() / plan.name
        if fetch_whole(plan.storage, plan.name):
            copy_results(plan.folder, target)
        else:
            launcher.fetch(job, str(plan.folder), target)
        echo(f"results of {job} are in {target}", err=True)
    raise typer.Exit(LEFT_ALONE if code is None else code)


def _print_submissions(sent: Sequence[tuple[Submission, Plan]], launcher: Launcher, *, as_json: bool) -> None:
    if as_json:
        for submission, plan in sent:
            print_line(submitted_document(submission, plan, _where(launcher, plan.storage_address)))
        return
    for submission, plan in sent:
        what = (
            "runs already, nothing new was started" if submission.already_running else f"{submission.files} files sent"
        )
        echo(f"job {submission.job} at {submission.place}: {what}; results go to {plan.results_address}")
    for line in dict.fromkeys(line for submission, _ in sent for line in submission.withheld):
        echo(line)
    for submission, plan in sent:
        echo(how_to_follow(submission.job, launcher, plan.storage_address))


def is_job(what: str, on: str | None, address: str | None) -> bool:
    """Whether ``logs`` is asked for a cluster job: the name has a job's form, or a cluster was named.

    Args:
        what: What ``logs`` was given.
        on: A cluster of the site file, or a launcher's name.
        address: A Ray head's address.
    """
    from expflow.cluster.launcher import looks_like_job

    return on is not None or address is not None or looks_like_job(what)


def job_logs(
    job: str, *, on: str | None, address: str | None, storage: str | None, follow: bool, as_json: bool = False
) -> None:
    """Print what a job printed.

    Args:
        job: The job's name.
        on: A cluster of the site file, or a launcher's name.
        address: A Ray head's address.
        storage: The folder of all results; None: the site's.
        follow: Whether to go on until it is over, and then to leave with its exit code.
        as_json: Whether JSON objects are printed, one a line.
    """
    launcher = chosen_launcher(on, address, storage)
    if as_json:
        print_line(LogDocument("log", 1, job, "", "", follow))
    if follow:
        _follow(launcher, job, storage, as_json=as_json)
    else:
        (_output_line if as_json else echo_output)(launcher.logs(job))


def _output_line(text: str) -> None:
    print_line(OutputDocument("output", 1, text))


def _follow(launcher: Launcher, job: str, storage: str | None, *, as_json: bool) -> None:
    code = _followed(launcher, job, storage, as_json=as_json)
    raise typer.Exit(LEFT_ALONE if code is None else code)


def _followed(launcher: Launcher, job: str, storage: str | None, *, as_json: bool) -> int | None:
    """Print what a job prints until it is over; returns its exit code, None where the user has enough of it."""
    try:
        over = launcher.follow(job, _output_line if as_json else echo_output)
    except KeyboardInterrupt:
        echo(f"\nthe job goes on without us. {how_to_follow(job, launcher, storage)}", err=True)
        return None
    if as_json:
        print_line(job_document(over))
        return over.exit_code
    echo(f"job {job}: {over.status}", err=True)
    if over.status == "FAILED" and over.message:
        echo(f"error: {over.message}", err=True)
    return over.exit_code


def list_jobs(on: str | None, address: str | None, storage: str | None, *, as_json: bool = False) -> None:
    """Print the jobs of a cluster, the latest first, with what the ledgers of their sweeps say.

    Args:
        on: A cluster of the site file, or a launcher's name.
        address: A Ray head's address.
        storage: The folder of all results; None: the site's.
        as_json: Whether JSON is printed.
    """
    from rich.table import Table

    from expflow.live.console import LiteralConsole

    launcher = chosen_launcher(on, address, storage)
    if as_json:
        jobs = launcher.jobs()
        print_document(jobs_document(launcher.place, jobs, launcher.progress(jobs)))
        return
    table = Table("job", "state", "started", "experiment", "trials", box=None, pad_edge=False, header_style="bold")
    jobs = launcher.jobs()
    progress = launcher.progress(jobs)
    for job in jobs:
        table.add_row(job.id, job.status, ago(job.started), job.experiment, _said_of(job, progress.get(job.id, "")))
    if not table.row_count:
        echo(" ".join(filter(None, [f"no job was submitted to {launcher.place}", launcher.listed])))
        return
    LiteralConsole(width=1_000).print(table)  # never cut, on any terminal: a job's name is there to be copied


def _said_of(job: ClusterJob, progress: str) -> str:
    """What a sweep's ledger says; of a job that waits also what for, and of one that never swept why it failed."""
    line = (redacted(job.message).strip().splitlines() or [""])[0].partition(", last available logs")[0]  # Ray's words
    reason = f"{line[:MOST_OF_REASON]}…" if len(line) > MOST_OF_REASON else line
    wanted = job.status == "PENDING" or (job.status == "FAILED" and not progress)
    return "; ".join(text for text in (progress, reason if wanted else "") if text)


def ago(moment: float) -> str:
    """How long ago a moment was, in words; an empty string for 0.

    Args:
        moment: In unix seconds.
    """
    if not moment:
        return ""
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def how_to_follow(job: str, launcher: Launcher, storage: str | None) -> str:
    """The commands that follow and stop a job.

    Args:
        job: The job's name.
        launcher: What runs it.
        storage: The folder of all results; None: the site's.
    """
    where = _where(launcher, storage)
    return (
        f"follow it:  {command_line('logs', job, '--follow', *where)}\nstop it:    {command_line('stop', job, *where)}"
    )


def _where(launcher: Launcher, storage: str | None) -> tuple[str, ...]:
    """The words of a command line that lead to a launcher's jobs."""
    if storage is None or launcher.choice[0] == "--address":
        return launcher.choice
    return (*launcher.choice, "--storage", storage)
