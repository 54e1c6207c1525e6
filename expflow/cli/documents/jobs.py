"""``submit``, ``stop``, ``logs`` and ``status`` of a cluster with ``--json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from expflow.cli.documents.next_command import NextCommand
from expflow.cluster.launcher import ClusterJob, Submission
from expflow.sweep.plan import Plan


@dataclass(frozen=True)
class SubmittedDocument:
    """The handle of a job that was sent to a cluster. The same submit again gives the same one.

    Attributes:
        document: Which document this is.
        version: Its version.
        job: The job's name.
        place: Where it runs: a head's address, or the cluster.
        already_running: Whether it ran already: nothing new was started.
        name: Name of the results.
        folder: The folder that they go to, as the cluster sees it.
        files: How many files of the project were sent.
        withheld: What was not sent because it is secret or lies elsewhere, in words.
        next: What can be done now.
    """

    document: Literal["submitted"]
    version: Literal[1]
    job: str
    place: str
    already_running: bool
    name: str
    folder: str
    files: int
    withheld: tuple[str, ...]
    next: tuple[NextCommand, ...]


@dataclass(frozen=True)
class JobRow:
    """A job of a cluster.

    Attributes:
        job: Its name.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        over: Whether it has ended.
        experiment: The experiment's name; empty for a job that expflow did not submit.
        results: Folder or address of its results; empty where it is not known.
        started: When it started (unix seconds); 0 where it has not.
        ended: When it ended; 0 where it has not.
        message: The launcher's explanation of the status.
        exit_code: The exit code of its command; None before it ended.
        progress: What the ledger of its sweep says, in words; empty where its results cannot be read.
    """

    job: str
    status: str
    over: bool
    experiment: str
    results: str
    started: float
    ended: float
    message: str
    exit_code: int | None
    progress: str = ""


@dataclass(frozen=True)
class JobDocument:
    """One job: as it was before it was asked to stop, or as it ended.

    Attributes:
        document: Which document this is.
        version: Its version.
        job: The job.
    """

    document: Literal["job"]
    version: Literal[1]
    job: JobRow


@dataclass(frozen=True)
class JobsDocument:
    """The jobs of a cluster.

    Attributes:
        document: Which document this is.
        version: Its version.
        place: Where they run: a head's address, or the cluster.
        jobs: The jobs, the latest first.
    """

    document: Literal["jobs"]
    version: Literal[1]
    place: str
    jobs: tuple[JobRow, ...]


def submitted_document(sent: Submission, plan: Plan, at: tuple[str, ...]) -> SubmittedDocument:
    """A submission as plain data.

    Args:
        sent: What was submitted.
        plan: The plan of its sweep.
        at: The words of a command line that lead to the job.
    """
    steps = (
        NextCommand("follow", ("expflow", "logs", sent.job, "--follow", *at)),
        NextCommand("stop", ("expflow", "stop", sent.job, *at)),
    )
    return SubmittedDocument(
        "submitted",
        1,
        sent.job,
        sent.place,
        sent.already_running,
        plan.name,
        plan.results_address,
        sent.files,
        sent.withheld,
        steps,
    )


def job_document(job: ClusterJob) -> JobDocument:
    """A job as plain data.

    Args:
        job: The job.
    """
    return JobDocument("job", 1, _job(job))


def jobs_document(place: str, jobs: Iterable[ClusterJob], progress: Mapping[str, str]) -> JobsDocument:
    """Jobs as plain data.

    Args:
        place: Where they run.
        jobs: The jobs.
        progress: Job -> what the ledger of its sweep says.
    """
    return JobsDocument("jobs", 1, place, tuple(_job(job, progress.get(job.id, "")) for job in jobs))


def _job(job: ClusterJob, progress: str = "") -> JobRow:
    return JobRow(
        job.id,
        job.status,
        job.over,
        job.experiment,
        job.results,
        job.started,
        job.ended,
        job.message,
        job.exit_code if job.over else None,
        progress,
    )
