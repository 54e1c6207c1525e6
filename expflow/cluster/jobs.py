"""The jobs of a Ray cluster: list, find, logs, stop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expflow.cluster.head import connect
from expflow.errors import AddressUnknown, ServerUnreachable

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

JOB_PREFIX = "expflow-"
STOPPED_EXIT_CODE = 143
"""What a job that was stopped on purpose counts as: ended by SIGTERM."""

_JOB_NAME = re.compile(r"(expflow-.*-[0-9a-f]{8}(-[0-9]+)?|raysubmit_\w+)")


@dataclass(frozen=True)
class Job:
    """One job as the head knows it. Times are unix seconds, 0.0 where there is none yet."""

    id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED (Ray's words)."""
    entrypoint: str = ""
    message: str = ""
    experiment: str = ""
    started: float = 0.0
    ended: float = 0.0
    driver_exit_code: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def exit_code(self) -> int:
        """The exit code of the command that ran, as far as Ray knows it; of a job that never ran, 3."""
        if self.driver_exit_code is not None:
            # A shell's code for "killed by signal n" is 128 + n; Python's is -n.
            return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code
        return {"SUCCEEDED": 0, "STOPPED": STOPPED_EXIT_CODE}.get(self.status, 3)


def looks_like_job(text: str) -> bool:
    """Whether ``text`` is the name of a Ray job rather than the address of an experiment."""
    return _JOB_NAME.fullmatch(text) is not None


def jobs(address: str | None = None) -> list[Job]:
    """All jobs that were submitted to the head, the latest first. Raises :class:`ServerUnreachable`."""
    return list_jobs(connect(address))


def find(job: str, address: str | None = None) -> Job:
    """One job. Raises :class:`AddressUnknown` where the head has no such job, else :class:`ServerUnreachable`."""
    client = connect(address)
    return known(client, job)


def logs(job: str, address: str | None = None) -> str:
    """All that a job printed so far. Raises as :func:`find`."""
    client = connect(address)
    known(client, job)
    return read_logs(client, job)


def stop(job: str, address: str | None = None) -> Job:
    """Ask a job to end: SIGTERM, time to save, then SIGKILL. Returns the job as it was. Raises as :func:`find`."""
    client = connect(address)
    before = known(client, job)
    if not before.over:
        with_words(client, client.stop_job, job)
    return before


def known(client: JobSubmissionClient, job: str) -> Job:
    """The job, or :class:`AddressUnknown` naming the jobs that there are."""
    found = lookup(client, job)
    if found is None:
        there = [each.id for each in list_jobs(client)][:5]
        listed = f"the latest there: {', '.join(there)}" if there else "there are none"
        raise AddressUnknown(f"the Ray head at {client.get_address()} has no job {job!r}; {listed}")
    return found


def lookup(client: JobSubmissionClient, job: str) -> Job | None:
    """The job, or None where the head has none of that name."""
    try:
        return _job(client.get_job_info(job))
    except RuntimeError as error:
        if "status code 404" in str(error):
            return None
        raise ServerUnreachable(_troubled(client, error)) from error
    except OSError as error:  # requests' errors are OSErrors
        raise ServerUnreachable(_troubled(client, error)) from error


def list_jobs(client: JobSubmissionClient) -> list[Job]:
    """All submitted jobs, the latest first."""
    listed = [_job(each) for each in with_words(client, client.list_jobs) if each.submission_id]
    return sorted(listed, key=lambda each: each.started, reverse=True)


def read_logs(client: JobSubmissionClient, job: str) -> str:
    """All that the job printed so far."""
    return str(with_words(client, client.get_job_logs, job))


def with_words(client: JobSubmissionClient, call: Any, *arguments: Any) -> Any:
    """``call(*arguments)`` with Ray's and requests' errors turned into :class:`ServerUnreachable`."""
    try:
        return call(*arguments)
    except (RuntimeError, OSError) as error:
        raise ServerUnreachable(_troubled(client, error)) from error


def _troubled(client: JobSubmissionClient, error: Exception) -> str:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return f"the Ray head at {client.get_address()} did not do what was asked: {said[-1]}"


def _job(details: Any) -> Job:
    return Job(
        id=details.submission_id or details.job_id or "",
        status=str(getattr(details.status, "value", details.status)),
        entrypoint=details.entrypoint or "",
        message=details.message or "",
        experiment=(details.metadata or {}).get("expflow.experiment", ""),
        started=(details.start_time or 0) / 1000,
        ended=(details.end_time or 0) / 1000,
        driver_exit_code=details.driver_exit_code,
    )
