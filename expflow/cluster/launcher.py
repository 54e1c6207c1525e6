"""The seam between ``submit``, ``status``, ``logs``, ``stop`` and what runs jobs: Ray, Slurm, Kubernetes, ssh."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from expflow.config.spec import Spec

if TYPE_CHECKING:
    from expflow.cluster.version_lock import VersionDifference

JOB_PREFIX = "expflow-"
STOPPED_EXIT_CODE = 143
"""What a job that was stopped on purpose counts as: ended by SIGTERM."""

_JOB_NAME = re.compile(r"(expflow-.*-[0-9a-f]{8}(-[0-9]+)?|raysubmit_\w+)")


@dataclass(frozen=True)
class ClusterJob:
    """One job as its launcher knows it. Times are unix seconds, 0.0 where there is none yet.

    Attributes:
        id: The job's id.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        entrypoint: The command that it runs.
        message: The launcher's explanation of the status.
        experiment: The experiment's name; "" for a job that expflow did not submit.
        results: Folder or address of the results; "" where it is not known.
        started: When it started.
        ended: When it ended.
        driver_exit_code: Exit code of the command; None where it is not known.
    """

    id: str
    status: str
    entrypoint: str = ""
    message: str = ""
    experiment: str = ""
    results: str = ""
    started: float = 0.0
    ended: float = 0.0
    driver_exit_code: int | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def exit_code(self) -> int:
        """The exit code of the command that ran, as far as it is known; of a job that never ran, 3."""
        if self.driver_exit_code is not None:
            # A shell's code for "killed by signal n" is 128 + n; Python's is -n.
            return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code
        return {"SUCCEEDED": 0, "STOPPED": STOPPED_EXIT_CODE}.get(self.status, 3)


@dataclass(frozen=True)
class SweepRequest:
    """One experiment that is to be swept on a cluster.

    Attributes:
        file: The experiment's file.
        name: The experiment's name.
        storage: Where all results lie: an absolute path or an address that the cluster can reach.
        sets: The ``--set`` arguments.
    """

    file: Path
    name: str
    storage: str
    sets: Sequence[str] = ()


@dataclass(frozen=True)
class Submission:
    """What was submitted.

    Attributes:
        job: The job's id.
        place: Where it runs, in words: the head's address, or the cluster.
        already_running: Whether the same job runs since an earlier call: nothing new was started.
        files: Number of files that were sent.
        withheld: What was not sent because it is secret or lies elsewhere, in words.
    """

    job: str
    place: str
    already_running: bool
    files: int
    withheld: tuple[str, ...] = ()


class Launcher(ABC):
    """Runs jobs. Where a call finds no such job it raises AddressUnknown, where nothing answers ServerUnreachable."""

    place: str
    """Where jobs run, in words."""
    choice: tuple[str, ...]
    """The words of a command line that choose this launcher, such as ``--on lab``."""
    listed: str = ""
    """Which jobs :meth:`jobs` knows, in words, where it does not know all of them."""

    @abstractmethod
    def submit(self, requests: Sequence[SweepRequest]) -> list[Submission]:
        """Start ``expflow sweep FILE`` for each experiment; returns as soon as the jobs exist.

        Calling this again while a job runs finds that job; after its end, the sweep is continued.

        Args:
            requests: The experiments; all lie in one project.

        Raises:
            UserError: The storage is a relative path, the project is too large, or a secret would be sent.
            ServerUnreachable: Nothing answers, or the jobs are not taken.
        """

    @abstractmethod
    def jobs(self) -> list[ClusterJob]:
        """All jobs that were submitted, the latest first."""

    @abstractmethod
    def logs(self, job: str) -> str:
        """All that a job printed so far.

        Args:
            job: The job's id.
        """

    @abstractmethod
    def follow(self, job: str, on_text: Callable[[str], None]) -> ClusterJob:
        """Hand everything that a job prints to a function, in order and once; returns the job when it has ended.

        Args:
            job: The job's id.
            on_text: Called with each piece of text.
        """

    @abstractmethod
    def stop(self, job: str) -> ClusterJob:
        """Ask a job to save and end.

        Args:
            job: The job's id.

        Returns:
            The job as it was before.
        """

    def fetch(self, job: str, results: str, target: Path) -> None:
        """Bring a job's results home. Raises also what :func:`~expflow.cluster.result_fetching.arriving` raises.

        Args:
            job: The job's id.
            results: Folder of the results, on the cluster.
            target: The experiment's folder here; it may hold an earlier state of the same results.

        Raises:
            ServerUnreachable: They cannot be read from here.
        """
        from expflow.cluster.result_fetching import copy_results

        copy_results(Path(results), target)

    def check_fetch(self, storage: str) -> None:
        """Refuse to promise results that could not be brought home, before anything is sent.

        Args:
            storage: The folder of all results, on the cluster.

        Raises:
            ServerUnreachable: They could not be read from here.
        """
        from expflow.cluster.result_fetching import check_readable

        check_readable(Path(storage))

    def progress(self, jobs: Sequence[ClusterJob]) -> dict[str, str]:
        """Job -> what the ledger of its sweep says; jobs whose results cannot be read are left out.

        Args:
            jobs: The jobs.
        """
        from expflow.cluster.job_progress import read_progress

        return by_job(jobs, read_progress(job.results for job in jobs))

    def differences_at_once(self, locked: Mapping[str, str]) -> dict[str, list[VersionDifference]]:
        """What is known without running a job of how the cluster's versions differ: machine -> differences.

        Args:
            locked: Package -> version, of the project that is to be sent.
        """
        return {}

    @abstractmethod
    def versions(self, packages: Sequence[str]) -> dict[str, dict[str, str]]:
        """Which versions the cluster's Python has: machine -> package -> version, with ``python`` among them.

        Args:
            packages: The packages that are asked for; those that a machine lacks are left out.

        Raises:
            ServerUnreachable: No machine is free, or one does not answer.
        """


class LauncherSpec(Spec):
    """How one cluster is reached; ``build`` is the launcher, called with the spec and the words that choose it."""

    build: ClassVar[str] = ""


def by_job(jobs: Sequence[ClusterJob], progress: Mapping[str, str]) -> dict[str, str]:
    """Job -> how far its sweep is.

    Args:
        jobs: The jobs.
        progress: Folder of results -> how far its sweep is.
    """
    return {job.id: progress[job.results] for job in jobs if job.results in progress}


def looks_like_job(text: str) -> bool:
    """Whether a text is the name of a job rather than the address of an experiment.

    Args:
        text: What the user gave.
    """
    return _JOB_NAME.fullmatch(text) is not None


def plain_name(name: str) -> str:
    """A name as it can stand in a URL and in a file name.

    Args:
        name: An experiment's name.
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:60] or "experiment"
