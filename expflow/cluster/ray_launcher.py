"""Jobs of a Ray head, through Ray Jobs."""

from __future__ import annotations

import secrets
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.cluster import log_following, ray_jobs
from expflow.cluster.job_folder import results_folder
from expflow.cluster.launcher import JOB_PREFIX, ClusterJob, Launcher, Submission, SweepRequest
from expflow.cluster.ray_head import connect, find_token, head_version, resolve_address
from expflow.cluster.ray_jobs import call_head, lookup_job
from expflow.cluster.specs import RayLauncherSpec
from expflow.cluster.submission import prepare, withheld
from expflow.cluster.version_lock import PROBE, VersionDifference, differences, parse_probe
from expflow.errors import ServerUnreachable

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_SECONDS = 60
"""How long a stopped job may take to save, before Ray kills it. Ray's own default is 3."""


class RayLauncher(Launcher):
    """Jobs of one Ray head.

    Args:
        spec: Where it is.
        choice: The words of a command line that choose it; none: its address is named.
        site_address: The site file's address, which may be of another kind than a head's.
    """

    def __init__(self, spec: RayLauncherSpec, choice: tuple[str, ...] = (), site_address: str | None = None) -> None:
        self.place = resolve_address(spec.address, site_address)
        self.choice = choice or ("--address", self.place)

    def submit(self, requests: Sequence[SweepRequest]) -> list[Submission]:
        """See :meth:`Launcher.submit`; each experiment is a job of its own."""
        client = connect(self.place)
        submissions = []
        with tempfile.TemporaryDirectory() as scratch:
            for sweep in prepare(requests, Path(scratch), self.choice):
                command = python_command(sweep.arguments)
                metadata = {
                    "expflow.experiment": sweep.request.name,
                    "expflow.results": results_folder(sweep.request.storage, sweep.request.name),
                }
                job, already_running = start_job(
                    client, sweep.job_name(command), command, sweep.package.path, metadata, sweep.variables
                )
                kept_back = tuple(withheld(sweep.package))
                submissions.append(Submission(job, self.place, already_running, sweep.package.files, kept_back))
        return submissions

    def jobs(self) -> list[ClusterJob]:
        """See :meth:`Launcher.jobs`."""
        return ray_jobs.all_jobs(self.place)

    def logs(self, job: str) -> str:
        """See :meth:`Launcher.logs`."""
        return ray_jobs.job_logs(job, self.place)

    def follow(self, job: str, on_text: Callable[[str], None]) -> ClusterJob:
        """See :meth:`Launcher.follow`."""
        return log_following.follow(job, on_text, self.place)

    def stop(self, job: str) -> ClusterJob:
        """See :meth:`Launcher.stop`: SIGTERM, time to save, then SIGKILL."""
        return ray_jobs.stop_job(job, self.place)

    def differences_at_once(self, locked: Mapping[str, str]) -> dict[str, list[VersionDifference]]:
        """See :meth:`Launcher.differences_at_once`: of Ray, whose version the head tells to who asks."""
        head = head_version(self.place, find_token())
        return {self.place: differences({"ray": locked["ray"]}, {"ray": head})}

    def versions(self, packages: Sequence[str]) -> dict[str, dict[str, str]]:
        """See :meth:`Launcher.versions`; of the head, on which a short job is run."""
        client = connect(self.place)
        job = f"{JOB_PREFIX}doctor-{secrets.token_hex(4)}"
        command = python_command(("-c", PROBE, *packages))
        call_head(client, lambda: client.submit_job(entrypoint=command, submission_id=job))
        text: list[str] = []
        over = log_following.follow(job, text.append, self.place)
        if over.exit_code:
            raise ServerUnreachable(f"the job {job} that asks for versions ended as {over.status}: {over.message}")
        return {self.place: parse_probe("".join(text), self.place)}


def python_command(arguments: Sequence[str]) -> str:
    """Shell text that runs Python as this very interpreter where the cluster has it.

    On this machine, and where the home folder is shared, the environment of the caller is the one that is meant;
    elsewhere it is whatever ``python`` is on the head. ``exec``: so that SIGTERM reaches Python and not the shell.

    Args:
        arguments: The arguments of Python.
    """
    has_both = "from importlib.util import find_spec as f; raise SystemExit(not (f('ray') and f('expflow')))"
    here = shlex.quote(sys.executable)
    probe = shlex.join(["-c", has_both])
    return f'py={here}; "$py" {probe} 2>/dev/null || py=python; exec "$py" {shlex.join(arguments)}'


def start_job(
    client: JobSubmissionClient,
    wanted: str,
    command: str,
    archive: Path,
    metadata: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[str, bool]:
    """Start a command in an unpacked archive as a job, whose id depends on what is run: a lost call can be repeated.

    Args:
        client: The head's client.
        wanted: The job's id, unless a finished job has it.
        command: The shell command.
        archive: The zip that is unpacked there.
        metadata: What the head is told of it beside the command.
        variables: Environment variables for the job, readable by everybody who may see it.

    Returns:
        The job's id, and whether it ran already.

    Raises:
        ServerUnreachable: The head does not take the job.
    """
    job = _free_id(client, wanted)
    if isinstance(job, ClusterJob):
        return job.id, True
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **(variables or {})}
    runtime = {"working_dir": str(archive), "env_vars": environment}
    try:
        client.submit_job(entrypoint=command, submission_id=job, runtime_env=runtime, metadata=dict(metadata or {}))
    except (RuntimeError, OSError) as error:
        if lookup_job(client, job) is not None:  # it did arrive, ours or that of a twin of this call
            return job, True
        raise ServerUnreachable(
            f"the Ray head at {client.get_address()} did not take the job: {ray_jobs.failure_reason(error)}"
        ) from error
    return job, False


def _free_id(client: JobSubmissionClient, wanted: str) -> str | ClusterJob:
    """An id that no job has yet (one of a finished job gets a number, since Ray takes every id once), or the job that
    runs the same command at this moment."""
    number = 1
    while True:
        candidate = wanted if number == 1 else f"{wanted}-{number}"
        there = lookup_job(client, candidate)
        if there is None:
            return candidate
        if not there.over:
            return there
        number += 1
