"""Sending an experiment to a Ray cluster."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.cluster.head import connect
from expflow.cluster.jobs import JOB_PREFIX, Job, lookup
from expflow.cluster.package import Package, pack, project_folder
from expflow.errors import ServerUnreachable, UserError
from expflow.sweep.provenance import CONTINUE_VARIABLE, GIT_VARIABLES, git_state

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_SECONDS = 60
"""How long a stopped job may take to save, before Ray kills it. Ray's own default is 3."""


@dataclass(frozen=True)
class Submitted:
    """What was sent. ``already`` where the same thing runs since an earlier call: nothing new was started."""

    job: str
    address: str
    already: bool
    package: Package


def submit(file: Path, *, name: str, storage: str, address: str | None = None, sets: Sequence[str] = ()) -> Submitted:
    """Start ``expflow sweep file`` on the Ray cluster at ``address``; returns as soon as the job exists.

    ``name`` is the experiment's; ``storage`` an absolute path or an address like ``s3://…`` that the cluster can
    reach, since a job runs in an unpacked copy of the project. Calling this again while the job runs finds that job.

    Raises :class:`UserError`, :class:`~expflow.errors.PackageMissing` and :class:`ServerUnreachable`.
    """
    if not (Path(storage).is_absolute() or "://" in storage):
        raise UserError(f"storage {storage!r} is relative: a cluster job needs an absolute path or an s3:// address")
    client = connect(address)
    project = project_folder(file)
    with tempfile.TemporaryDirectory() as scratch:
        package = pack(project, Path(scratch) / "project.zip")
        inside = file.resolve().relative_to(project).as_posix()
        command = sweep_command(inside, storage, sets)
        digest = hashlib.sha256(f"{package.digest}\0{command}".encode()).hexdigest()[:8]
        told = {CONTINUE_VARIABLE: submit_command(file, storage, sets), **_commit(project)}
        job, already = start(client, f"{JOB_PREFIX}{_plain(name)}-{digest}", command, package.path, name, told)
    return Submitted(job, str(client.get_address()), already, package)


def sweep_command(file: str, storage: str, sets: Sequence[str]) -> str:
    """The shell command of the job."""
    arguments = ["-m", "expflow", "sweep", file, "--storage", storage]
    for each in sets:
        arguments += ["--set", each]
    return python_command(arguments)


def submit_command(file: Path, storage: str, sets: Sequence[str]) -> str:
    """What to type to go on with a job that was stopped."""
    words = [word for each in sets for word in ("--set", each)]
    return shlex.join(["expflow", "submit", str(file), *words, "--storage", storage])


def _commit(project: Path) -> dict[str, str]:
    """The state of the repository, which is not sent itself, for the results to be recorded with."""
    return {f"{GIT_VARIABLES}{key.upper()}": value for key, value in git_state(project).items()}


def python_command(arguments: Sequence[str]) -> str:
    """Shell text that runs Python with ``arguments``, as this very interpreter where the cluster has it.

    On this machine, and where the home folder is shared, the environment of the caller is the one that is meant;
    elsewhere it is whatever ``python`` is on the head. ``exec``: so that SIGTERM reaches Python and not the shell.
    """
    has_both = "from importlib.util import find_spec as f; raise SystemExit(not (f('ray') and f('expflow')))"
    here = shlex.quote(sys.executable)
    probe = shlex.join(["-c", has_both])
    return f'py={here}; "$py" {probe} 2>/dev/null || py=python; exec "$py" {shlex.join(arguments)}'


def start(
    client: JobSubmissionClient,
    wanted: str,
    command: str,
    archive: Path,
    experiment: str = "",
    told: Mapping[str, str] | None = None,
) -> tuple[str, bool]:
    """Start ``command`` in the unpacked ``archive`` as the job ``wanted``; returns its id and whether it ran already.

    ``told`` are variables for the job, readable by everybody who may look at it.

    The id is made here and depends on what is run, so that a call whose reply was lost can be repeated. An id that
    belongs to a finished job gets a number (Ray takes every id only once).
    """
    job = _free_id(client, wanted)
    if isinstance(job, Job):
        return job.id, True
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **_passed_on(), **(told or {})}
    try:
        client.submit_job(
            entrypoint=command,
            submission_id=job,
            runtime_env={"working_dir": str(archive), "env_vars": environment},
            metadata={"expflow.experiment": experiment},
        )
    except (RuntimeError, OSError) as error:
        if lookup(client, job) is not None:  # it did arrive, ours or that of a twin of this call
            return job, True
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ServerUnreachable(f"the Ray head at {client.get_address()} did not take the job: {said[-1]}") from error
    return job, False


def _free_id(client: JobSubmissionClient, wanted: str) -> str | Job:
    """An id that no job has yet, or the job that does the same thing at this moment."""
    number = 1
    while True:
        candidate = wanted if number == 1 else f"{wanted}-{number}"
        there = lookup(client, candidate)
        if there is None:
            return candidate
        if not there.over:
            return there
        number += 1


def _passed_on() -> dict[str, str]:
    """Variables of the caller that the job needs. No secret may be among them: Ray shows them to who asks."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    parts = urllib.parse.urlsplit(tracking)
    if parts.scheme in ("http", "https") and not parts.password:
        return {"MLFLOW_TRACKING_URI": tracking}
    return {}


def _plain(name: str) -> str:
    """``name`` as it can stand in a URL and in a file name on the head."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:60] or "experiment"
