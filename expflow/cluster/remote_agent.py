"""What ssh runs on a workstation: it keeps the folders of jobs there. Standard library only, since its source is sent.

What it answers is one line of JSON on the standard output.
"""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER = "driver"
"""Role of the job's process on its first machine. A home folder may be shared: each process has files of its own."""
HEAD_SECONDS = 90.0
MOST_OF_LOG = 2**20
TAR_MARK = b"expflow-results-follow\n"


def _root(folder: str) -> Path:
    path = Path.home() / folder
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _record(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _process(folder: Path, role: str = DRIVER) -> int:
    """Number of the job's process that has a role, which it holds a file locked for; 0 where none lives."""
    try:
        with (folder / f"{role}.running").open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(file.read().strip() or 0)
    except (OSError, ValueError):
        pass
    return 0


def list_jobs(root: str) -> list[dict[str, Any]]:
    """All jobs on this machine: what each runs, how it ended, whether it lives, when it was sent.

    Args:
        root: Folder of all jobs, seen from the home folder.
    """
    listed = []
    for folder in sorted(_root(root).iterdir()):
        order, end = _record(folder / "order.json"), _record(folder / "ended.json")
        if order is not None:
            sent = (folder / "order.json").stat().st_mtime
            alive = bool(_process(folder))
            listed.append({"job": folder.name, "order": order, "end": end, "alive": alive, "sent": sent})
    return listed


def begin(root: str, job: str, python: str, nodes: int, data: bytes) -> dict[str, Any]:
    """Start a job's first process, unless it lives; of two calls at once one waits for the other.

    Args:
        root: Folder of all jobs.
        job: The job's name.
        python: Python with expflow's packages.
        nodes: Machines of the job.
        data: A tar of the job's folder.

    Returns:
        ``already_running``; ``head``, the address of the job's Ray head, None where there is none; its ``token``.
    """
    folder = _root(root) / job
    with _alone(folder):
        there = bool(_process(folder))
        if not there:
            for name in ("ended.json", "head.json"):
                (folder / name).unlink(missing_ok=True)
            _unpack(folder, data)
            _wait_for_head(folder, _start(folder, python, DRIVER, nodes))
        head = _record(folder / "head.json")
        token = (folder / "token").read_text(encoding="utf-8")
    return {"already_running": there, "head": head and head["value"], "token": token}


def join(root: str, job: str, python: str, role: str, head: str, nodes: int, data: bytes) -> bool:
    """Start a job's process on a further machine, unless it lives; whether it was started.

    Args:
        root: Folder of all jobs.
        job: The job's name.
        python: Python with expflow's packages.
        role: Which of the machines this is.
        head: The job's Ray head.
        nodes: Machines of the job.
        data: A tar of the job's folder, with the head's token.
    """
    folder = _root(root) / job
    with _alone(folder):
        if _process(folder, role):
            return False
        if not _process(folder):  # a shared home has it already, in use
            _unpack(folder, data)
        _start(folder, python, role, nodes, "--join", head)
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(folder: Path, data: bytes) -> None:
    shutil.rmtree(folder / "project", ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="data")


def _start(folder: Path, python: str, role: str, nodes: int, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a process of a job that outlives this connection."""
    command = [python, "-m", "expflow.cluster.ray_allocation", str(folder), "--hold", str(folder / f"{role}.running")]
    with (folder / ("log" if role == DRIVER else f"{role}.log")).open("ab") as file:
        return subprocess.Popen(  # noqa: S603
            [*command, *arguments],
            cwd=folder / "project",
            env={**os.environ, "EXPFLOW_NODES": str(nodes)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for_head(folder: Path, process: subprocess.Popen[bytes]) -> None:
    patience = time.monotonic() + HEAD_SECONDS
    while process.poll() is None and time.monotonic() < patience and not (folder / "head.json").exists():
        time.sleep(0.2)


def read_log(root: str, job: str, offset: int) -> dict[str, Any]:
    """What a job printed from a place on, the place after it, and whether the job lives.

    Args:
        root: Folder of all jobs.
        job: The job's name.
        offset: The place, in bytes.
    """
    folder = _root(root) / job
    alive = bool(_process(folder))  # asked first: what a job prints last is not missed
    content = b""
    if (folder / "log").exists():
        with (folder / "log").open("rb") as file:
            file.seek(offset)
            content = file.read(MOST_OF_LOG)
    return {"text": content.decode("latin-1"), "place": offset + len(content), "alive": alive}


def stop(root: str, job: str) -> bool:
    """Ask a job's first process to save and end; whether there was one.

    Args:
        root: Folder of all jobs.
        job: The job's name.
    """
    process = _process(_root(root) / job)
    if process:
        os.kill(process, signal.SIGTERM)
    return bool(process)


def send(root: str, job: str, left_out: list[str]) -> None:
    """Write a job's results to the standard output as a compressed tar, behind a line that nothing else prints.

    Args:
        root: Folder of all jobs, seen from the home folder.
        job: The job's name.
        left_out: Names in the results' folder that stay.
    """
    send_folder(_record(_root(root) / job / "order.json")["results"], left_out)


def send_folder(folder: str, left_out: list[str]) -> None:
    """Write a folder to the standard output, as :func:`send` does.

    Args:
        folder: The folder.
        left_out: Names in it that stay.
    """
    results = Path(folder)
    names = sorted(path.name for path in results.iterdir() if path.name not in left_out)
    sys.stdout.buffer.write(b"\n" + TAR_MARK)
    with (
        gzip.GzipFile(fileobj=sys.stdout.buffer, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for name in names:
            archive.add(results / name, name)
    sys.stdout.buffer.flush()


def run(root: str, command: list[str], job: str = "") -> str:
    """Run a command to its end; returns what it printed.

    Args:
        root: Folder of all jobs, seen from the home folder.
        command: Program and arguments.
        job: The job in whose project it runs; "": in none.
    """
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=_root(root) / job / "project" if job else _root(root),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HEAD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout or done.stderr


def main(action: str, arguments: Mapping[str, Any], data: bytes) -> None:
    """Do what is asked, and answer.

    Args:
        action: ``list``, ``begin``, ``join``, ``log``, ``stop``, ``run``, ``send`` or ``send_folder``.
        arguments: Its arguments.
        data: What was sent beside them.
    """
    os.umask(0o077)
    if action in ("send", "send_folder"):
        senders: dict[str, Any] = {"send": send, "send_folder": send_folder}
        senders[action](**arguments)
        return
    extra = {"data": data} if action in ("begin", "join") else {}
    actions: dict[str, Any] = {
        "list": list_jobs,
        "begin": begin,
        "join": join,
        "log": read_log,
        "stop": stop,
        "run": run,
    }
    sys.stdout.write(json.dumps({"answer": actions[action](**arguments, **extra)}) + "\n")
