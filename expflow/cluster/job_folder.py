"""The folder of a job that no server keeps: what is run, its log, and how it ended.

It lies where every node of the job can read it, and belongs to its user alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from expflow.cluster.launcher import STOPPED_EXIT_CODE, ClusterJob
from expflow.errors import Refused
from expflow.files import read_bounded, write_atomically

MAX_RECORD_BYTES = 2**20


@dataclass(frozen=True)
class JobOrder:
    """What a job runs.

    Attributes:
        experiment: The experiment's name.
        results: Folder or address of the results.
        arguments: The arguments of Python that sweep it, in the project's folder.
        variables: Environment of the sweep.
        nodes: Nodes that take part.
    """

    experiment: str
    results: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    nodes: int = 1


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        exit_code: Of the sweep; of one that never began, 3.
        began: When its first process began, in unix seconds.
        ended: When it ended.
        message: What happened besides, in words.
    """

    exit_code: int
    began: float
    ended: float
    message: str = ""


@dataclass(frozen=True)
class JobFolder:
    """A job's folder.

    Attributes:
        path: Where it lies; its name is the job's.
    """

    path: Path

    @property
    def job(self) -> str:
        """The job's name."""
        return self.path.name

    @property
    def holds_job(self) -> bool:
        """Whether a job was ever put into it."""
        return (self.path / "order.json").is_file()

    @property
    def project(self) -> Path:
        """The unpacked project."""
        return self.path / "project"

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.path / "log"

    @property
    def token_file(self) -> Path:
        """The token of the job's Ray cluster."""
        return self.path / "token"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, which is made where there is none: of two submissions at once one waits for the other."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fill(self, order: JobOrder, package: Path) -> None:
        """Unpack a project and write down what is run. The end of an earlier run of the same is forgotten.

        Args:
            order: What is run.
            package: The packed project.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self.forget_end()
        fresh = self.path / "project.new"
        shutil.rmtree(fresh, ignore_errors=True)
        with zipfile.ZipFile(package) as archive:
            archive.extractall(fresh)
        shutil.rmtree(self.project, ignore_errors=True)
        fresh.rename(self.project)
        self._write("order.json", asdict(order))

    def order(self) -> JobOrder:
        """What is run.

        Raises:
            Refused: The record does not read.
        """
        record = self._read("order.json")
        if record is None:
            raise Refused(f"{self.path} holds no job: order.json is missing")
        try:
            return JobOrder(**{**record, "arguments": tuple(record["arguments"])})
        except (TypeError, KeyError) as error:
            raise Refused(f"{self.path / 'order.json'} is no job's record: {error}") from error

    def note(self, key: str, value: Any) -> None:
        """Write down one thing about the job, such as its number in Slurm.

        Args:
            key: What it is.
            value: Plain data.
        """
        self._write(f"{key}.json", {"value": value})

    def noted(self, key: str) -> Any:
        """What was written down last; None where nothing was.

        Args:
            key: What it is.
        """
        record = self._read(f"{key}.json")
        return record.get("value") if record else None

    def write_end(self, end: JobEnd) -> None:
        """Write down how the job ended.

        Args:
            end: How.
        """
        self._write("ended.json", asdict(end))

    def forget_end(self) -> None:
        """Forget how an earlier run of the job ended."""
        (self.path / "ended.json").unlink(missing_ok=True)

    def end(self) -> JobEnd | None:
        """How the job ended; None while it has not, or where it was killed before it could say."""
        record = self._read("ended.json")
        return JobEnd(**record) if record else None

    def make_token(self) -> str:
        """The token of the job's Ray cluster; it is made where there is none, readable by the user alone."""
        try:
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self.token_file.read_text().strip()
        token = secrets.token_hex(32)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)
        return token

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, json.dumps(record).encode())

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            record = json.loads(read_bounded(self.path / name, MAX_RECORD_BYTES))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Refused(
                f"{self.path / name} does not read: {error}. When the job has ended, delete {self.path}: results lie"
                " elsewhere"
            ) from error
        if not isinstance(record, dict):
            raise Refused(f"{self.path / name} is no job's record")
        return record


def job_folders(root: Path) -> list[JobFolder]:
    """The folders of all jobs, the latest first.

    Args:
        root: The folder that holds them.
    """
    folders = [JobFolder(path) for path in root.iterdir()] if root.is_dir() else []
    return sorted((folder for folder in folders if folder.holds_job), key=_sent, reverse=True)


def _sent(folder: JobFolder) -> float:
    return (folder.path / "order.json").stat().st_mtime


def described_job(job: str, order: JobOrder) -> ClusterJob:
    """A job by what it runs; it counts as failed until something says more.

    Args:
        job: The job's name.
        order: What it runs.
    """
    return ClusterJob(job, "FAILED", shlex.join(order.arguments), experiment=order.experiment, results=order.results)


def ended_job(job: ClusterJob, end: JobEnd) -> ClusterJob:
    """A job that has ended.

    Args:
        job: The job.
        end: How it ended.
    """
    status = {0: "SUCCEEDED", 130: "STOPPED", STOPPED_EXIT_CODE: "STOPPED"}.get(end.exit_code, "FAILED")
    return replace(
        job,
        status=status,
        message=end.message,
        started=end.began,
        ended=end.ended,
        driver_exit_code=end.exit_code,
    )


def results_folder(storage: str, name: str) -> str:
    """Folder or address of an experiment's results.

    Args:
        storage: Where all results lie.
        name: The experiment's name.
    """
    return f"{storage.rstrip('/')}/{name}"


def read_from(path: Path, offset: int, most: int = 2**20) -> bytes:
    """What a log holds from a place on.

    Args:
        path: The log; one that is not there holds nothing.
        offset: The place, in bytes.
        most: Most bytes that are read at once.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
    except FileNotFoundError:
        return b""
