"""What every launcher sends: the packed project, the command of the sweep, and what must not be told to others."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.cluster.launcher import JOB_PREFIX, SweepRequest, plain_name
from expflow.cluster.project_package import ProjectPackage, pack_project, project_folder
from expflow.cluster.version_lock import as_variable, locked_versions
from expflow.errors import UserError
from expflow.redaction import holds_secret, public_address, redacted
from expflow.sweep.provenance import CONTINUE_VARIABLE, GIT_VARIABLES, git_state
from expflow.text import file_operand


@dataclass(frozen=True)
class PreparedSweep:
    """One experiment, ready to be sent.

    Attributes:
        request: The experiment.
        package: The project, packed.
        arguments: The arguments of Python that sweep it, in the project's folder.
        variables: Environment of the job, readable by everybody who may see it.
    """

    request: SweepRequest
    package: ProjectPackage
    arguments: tuple[str, ...]
    variables: Mapping[str, str]

    def job_name(self, command: str) -> str:
        """The name of the job: it depends on what is run, so that a lost call can be repeated.

        Args:
            command: What the job runs.
        """
        digest = hashlib.sha256(f"{self.package.digest}\0{command}".encode()).hexdigest()[:8]
        return f"{JOB_PREFIX}{plain_name(self.request.name)}-{digest}"


def prepare(requests: Sequence[SweepRequest], scratch: Path, choice: Sequence[str] = ()) -> list[PreparedSweep]:
    """Pack the project of some experiments. Raises also what
    :func:`~expflow.cluster.project_package.pack_project` raises.

    Args:
        requests: The experiments.
        scratch: Folder for the package.
        choice: The words of a command line that choose the cluster.

    Raises:
        UserError: A storage is a relative path, it or a ``--set`` holds a secret, or the experiments lie in different
            projects.
    """
    for request in requests:
        if not (Path(request.storage).is_absolute() or "://" in request.storage):
            raise UserError(
                f"storage {request.storage!r} is relative: a cluster job needs an absolute path or an s3:// address"
            )
        _refuse_secrets(request.storage, request.sets)
    projects = sorted({project_folder(request.file) for request in requests})
    if len(projects) > 1:
        raise UserError(
            f"the experiments lie in different projects ({projects[0]}, {projects[1]}): submit them one by one"
        )
    package = pack_project(projects[0], scratch / "project.zip")
    versions = as_variable(locked_versions(projects[0]))
    commit = {f"{GIT_VARIABLES}{key.upper()}": value for key, value in git_state(projects[0]).items()}
    return [
        PreparedSweep(
            request,
            package,
            sweep_arguments(request.file.resolve().relative_to(projects[0]).as_posix(), request.storage, request.sets),
            {CONTINUE_VARIABLE: submit_command(request, choice), **versions, **_passed_on(), **commit},
        )
        for request in requests
    ]


def _refuse_secrets(storage: str, sets: Sequence[str]) -> None:
    """A job's command is shown to everybody who may list jobs."""
    for option, text in (("--storage", storage), *(("--set", text) for text in sets)):
        if holds_secret(text) or ("://" in text and public_address(text) != text):
            raise UserError(
                f"{option} {public_address(redacted(text))} holds a secret, and everybody who may list the cluster's"
                " jobs sees their commands: the job finds passwords in ~/.netrc and in the environment variables of"
                " the cluster"
            )


def withheld(package: ProjectPackage) -> Iterator[str]:
    """What is not sent because it is secret or lies elsewhere, in words.

    Args:
        package: The packed project.
    """
    if package.left_out:
        links = ", ".join(package.left_out[:5]) + ", …" * (len(package.left_out) > 5)
        yield f"not sent: {links} (links that lead to files which do not belong to the project)"
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if public_address(tracking) != tracking:
        yield (
            "not sent: MLFLOW_TRACKING_URI, which holds a secret; the job writes to MLflow where the cluster's own"
            f" environment says so (MLFLOW_TRACKING_URI={public_address(tracking)} and MLFLOW_TRACKING_TOKEN)"
        )


def sweep_arguments(file: str, storage: str, sets: Sequence[str]) -> tuple[str, ...]:
    """The arguments of Python that sweep an experiment.

    Args:
        file: The experiment's file, relative to the project.
        storage: Where results go.
        sets: The ``--set`` arguments.
    """
    assignments = [word for assignment in sets for word in ("--set", assignment)]
    return ("-m", "expflow", "sweep", file_operand(file), "--storage", storage, *assignments)


def submit_command(request: SweepRequest, choice: Sequence[str] = ()) -> str:
    """What the user types to go on with a job that was stopped.

    Args:
        request: The experiment.
        choice: The words of a command line that choose the cluster.
    """
    words = [word for assignment in request.sets for word in ("--set", assignment)]
    return shlex.join(
        ["expflow", "submit", file_operand(str(request.file)), *words, "--storage", request.storage, *choice]
    )


def _passed_on() -> dict[str, str]:
    """Variables of the caller that the job needs. No secret may be among them: Ray shows them to every client."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith(("http://", "https://")) and public_address(tracking) == tracking:
        return {"MLFLOW_TRACKING_URI": tracking}
    return {}
