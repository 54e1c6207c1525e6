"""The jobs of a Ray cluster: list, find, logs, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expflow.cluster.launcher import ClusterJob
from expflow.cluster.ray_head import connect
from expflow.errors import AddressUnknown, ServerUnreachable

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


_NO_AGENT = "No available agent"
_NO_AGENT_HELP = (
    "The head's agent, which starts jobs, is not up: either the head has only just been started, or another Ray on that"
    " machine, such as a running sweep, has its port 52365; start the head with another one"
    " (`--dashboard-agent-listen-port=52366`)"
)


def all_jobs(address: str | None = None) -> list[ClusterJob]:
    """All jobs that were submitted to the head, the latest first. Raises as :func:`~expflow.cluster.ray_head.connect`.

    Args:
        address: Address of the Ray head; by default the usual one.
    """
    return list_jobs(connect(address))


def job_logs(job: str, address: str | None = None) -> str:
    """All that a job printed so far.

    Raises as :func:`require_job` and :func:`~expflow.cluster.ray_head.connect`.

    Args:
        job: The job's id.
        address: Address of the Ray head; by default the usual one.
    """
    client = connect(address)
    require_job(client, job)
    return read_logs(client, job)


def stop_job(job: str, address: str | None = None) -> ClusterJob:
    """Ask a job to end: SIGTERM, time to save, then SIGKILL.

    Raises as :func:`require_job` and :func:`~expflow.cluster.ray_head.connect`.

    Args:
        job: The job's id.
        address: Address of the Ray head; by default the usual one.

    Returns:
        The job as it was before.
    """
    client = connect(address)
    before = require_job(client, job)
    if not before.over:
        call_head(client, client.stop_job, job)
    return before


def require_job(client: JobSubmissionClient, job: str) -> ClusterJob:
    """One job of a head.

    Args:
        client: The head's client.
        job: The job's id.

    Raises:
        AddressUnknown: There is none of that id; the message names the jobs that there are.
        ServerUnreachable: The head does not answer.
    """
    existing = lookup_job(client, job)
    if existing is None:
        there = [other.id for other in list_jobs(client)][:5]
        listed = f"the latest there: {', '.join(there)}" if there else "there are none"
        raise AddressUnknown(f"the Ray head at {client.get_address()} has no job {job!r}; {listed}")
    return existing


def lookup_job(client: JobSubmissionClient, job: str) -> ClusterJob | None:
    """One job of a head; None where there is none of that id.

    Args:
        client: The head's client.
        job: The job's id.

    Raises:
        ServerUnreachable: The head does not answer.
    """
    try:
        return _job(client.get_job_info(job))
    except RuntimeError as error:
        if "status code 404" in str(error):
            return None
        raise ServerUnreachable(_failure_text(client, error)) from error
    except OSError as error:  # requests' errors are OSErrors
        raise ServerUnreachable(_failure_text(client, error)) from error


def list_jobs(client: JobSubmissionClient) -> list[ClusterJob]:
    """All submitted jobs of a head, the latest first.

    Args:
        client: The head's client.
    """
    listed = [_job(details) for details in call_head(client, client.list_jobs) if details.submission_id]
    return sorted(listed, key=lambda job: job.started, reverse=True)


def read_logs(client: JobSubmissionClient, job: str) -> str:
    """All that a job printed so far.

    Args:
        client: The head's client.
        job: The job's id.
    """
    return str(call_head(client, client.get_job_logs, job))


def call_head(client: JobSubmissionClient, call: Any, *arguments: Any) -> Any:
    """Call a method of a head's client, with Ray's and requests' errors turned into one of ours.

    Args:
        client: The head's client.
        call: The method.
        *arguments: Its arguments.

    Raises:
        ServerUnreachable: The head does not answer, or refuses.
    """
    try:
        return call(*arguments)
    except (RuntimeError, OSError) as error:
        raise ServerUnreachable(_failure_text(client, error)) from error


def failure_reason(error: Exception) -> str:
    """Why the head did not do something: the last line of what it answered, and what helps where that does not say it.

    Args:
        error: What Ray's client raised.
    """
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return f"{reason.rstrip('. ')}. {_NO_AGENT_HELP}" if _NO_AGENT in reason else reason


def _failure_text(client: JobSubmissionClient, error: Exception) -> str:
    return f"the Ray head at {client.get_address()} did not do what was asked: {failure_reason(error)}"


def _job(details: Any) -> ClusterJob:
    return ClusterJob(
        id=details.submission_id or details.job_id or "",
        status=str(getattr(details.status, "value", details.status)),
        entrypoint=details.entrypoint or "",
        message=details.message or "",
        experiment=(details.metadata or {}).get("expflow.experiment", ""),
        results=(details.metadata or {}).get("expflow.results", ""),
        started=(details.start_time or 0) / 1000,
        ended=(details.end_time or 0) / 1000,
        driver_exit_code=details.driver_exit_code,
    )
