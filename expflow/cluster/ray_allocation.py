"""A Ray cluster that lives as long as one sweep, on the machines that a batch system or ssh gave.

``python -m expflow.cluster.ray_allocation FOLDER`` runs on the first machine: it starts a Ray head with a token of its
own, has the batch system start the others, runs the sweep, and ends what it started. With ``--join HEAD`` it runs on
each other machine, and ends with the head. Nothing here imports Ray: its own commands are used.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from expflow.cluster.allocated_machines import AllocatedMachines, machines_of
from expflow.cluster.job_folder import JobEnd, JobFolder, JobOrder
from expflow.sweep.ray_address import NODES_VARIABLE, ON_LOOPBACK, WITHOUT_METRICS

END_SECONDS = 20.0
"""How long Ray's processes may take to end before they are killed."""
HEAD_SECONDS = 60.0
"""How long the head may take to answer."""
WATCH_SECONDS = 1.0
LOST_AFTER = 5
"""A head that did not answer so often in a row is gone."""


class RayAllocation:
    """The Ray cluster of one job, seen from one of its machines.

    Args:
        folder: The job's folder.
        machines: Who knows this machine's address and starts the others.
        save_seconds: How long the sweep may take to save after it was asked to end.
    """

    def __init__(self, folder: JobFolder, machines: AllocatedMachines, save_seconds: float) -> None:
        self._folder, self._machines, self._save_seconds = folder, machines, save_seconds
        self._started: list[subprocess.Popen[bytes]] = []
        self._stopped_by = 0
        # Sockets lie in it, whose paths must be short; other users of the machine have folders of their own.
        self._nodes_log = folder.path / "nodes.log"
        self._scratch = Path(f"/tmp/expflow-{os.getuid()}-{secrets.token_hex(4)}")  # noqa: S108

    def run_sweep(self) -> int:
        """Run the job's sweep on a cluster of its own; returns its exit code, which is written down, too."""
        order, began = self._folder.order(), time.time()
        self._folder.forget_end()  # of an attempt that was preempted
        code, message = 3, "the sweep did not begin"
        with self._forwarding_signals():
            try:
                head = self._start_head()
                if (others := self._machines.start_others(self._folder.path, head)) is not None:
                    self._started.append(others)
                self._folder.note("head", head)
                code, message = self._sweep(order, head), ""
            except _HeadFailed as error:
                message = str(error)
                sys.stderr.write(f"error: {error}\n")
            finally:
                self._end_all()
                self._folder.write_end(JobEnd(code, began, time.time(), message))
        return code

    def join(self, head: str) -> int:
        """Be a node of the job's cluster until its head is gone.

        Args:
            head: Address and port of the head.
        """
        with self._forwarding_signals():
            try:
                node = self._ray("start", f"--address={head}", *self._resources())
                lost = 0
                while node.poll() is None and lost < LOST_AFTER and not self._stopped_by:
                    time.sleep(WATCH_SECONDS)
                    lost = 0 if _answers(head) else lost + 1
                return 0 if node.poll() is None else 3
            finally:
                self._end_all()

    def _start_head(self) -> str:
        self._folder.make_token()
        self._scratch.mkdir(mode=0o700)
        address = self._address()
        head = f"{address}:{_free_port(address)}"
        port = head.rpartition(":")[2]
        process = self._ray(
            "start",
            "--head",
            f"--port={port}",
            "--include-dashboard=false",
            f"--temp-dir={self._scratch}",
            *self._resources(),
        )
        patience = time.monotonic() + HEAD_SECONDS
        while not _answers(head):
            if process.poll() is not None or time.monotonic() > patience:
                raise _HeadFailed(f"the Ray head on {address} did not start: {_last_line(self._nodes_log)}")
            if self._stopped_by:
                raise _HeadFailed("stopped before the sweep began")
            time.sleep(0.2)
        return head

    def _address(self) -> str:
        """Where the other machines reach this one; without others, nobody else may."""
        return self._machines.address() if self._machines.count > 1 else "127.0.0.1"

    def _resources(self) -> list[str]:
        return [
            f"--node-ip-address={self._address()}",
            *(f"--num-{kind}={count}" for kind, count in self._machines.resources().items()),
            "--disable-usage-stats",
        ]

    def _ray(self, *words: str) -> subprocess.Popen[bytes]:
        ray = [str(Path(sysconfig.get_path("scripts"), "ray")), *words, "--block"]
        with self._nodes_log.open("ab") as log:  # it says how to join by hand, and how it ends
            process = subprocess.Popen(  # noqa: S603
                ray,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._folder.token_file)}
        alone = ON_LOOPBACK if self._machines.count == 1 else WITHOUT_METRICS
        return {**os.environ, **token, **alone}

    def _sweep(self, order: JobOrder, head: str) -> int:
        environment = {
            **self._environment(),
            **order.variables,
            "RAY_ADDRESS": head,
            NODES_VARIABLE: str(self._machines.count),
        }
        sweep = subprocess.Popen(  # noqa: S603
            [sys.executable, *order.arguments], cwd=self._folder.project, env=environment, stdin=subprocess.DEVNULL
        )
        asked = 0.0
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = sweep.wait(0.2)
                return code if code >= 0 else 128 - code
            if self._stopped_by and not asked:
                asked = time.monotonic()
                sweep.send_signal(self._stopped_by)
            elif asked and time.monotonic() - asked > self._save_seconds:
                sweep.kill()

    def _forwarding_signals(self) -> _Handlers:
        def stop(number: int, frame: object) -> None:
            self._stopped_by = number

        return _Handlers(stop)

    def _end_all(self) -> None:
        """End what was started, the last first; what does not end by itself is killed with its group."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
        patience = time.monotonic() + END_SECONDS
        for process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, patience - time.monotonic()))
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)


class _HeadFailed(Exception):
    """The cluster could not be started."""


class _Handlers:
    """In the body, a handler takes the signals that ask a process to end.

    Args:
        handler: Called with the signal's number.
    """

    def __init__(self, handler: Callable[[int, object], None]) -> None:
        self._handler = handler
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1]} ({log})" if lines else f"it said nothing ({log})"


def _hold(path: Path) -> bool:
    """Lock a file until this process ends, and write its number there; whether nobody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return True


def _answers(head: str) -> bool:
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def main(words: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """The command of this module.

    Args:
        words: Its arguments; by default the process's.
        environment: The environment that says which machines there are; by default the process's.
    """
    parser = argparse.ArgumentParser(prog="python -m expflow.cluster.ray_allocation")
    parser.add_argument("folder", type=Path, help="the job's folder")
    parser.add_argument("--join", metavar="HEAD", help="address and port of the head")
    parser.add_argument(
        "--hold", type=Path, metavar="FILE", help="file that is held locked, with this process's number"
    )
    parser.add_argument("--save-seconds", type=float, default=60.0, help="how long the sweep may take to save")
    given = parser.parse_args(words)
    os.umask(0o077)
    if given.hold and not _hold(given.hold):
        sys.stderr.write("error: this job runs already\n")
        return 3
    machines = machines_of(os.environ if environment is None else environment)
    allocation = RayAllocation(JobFolder(given.folder), machines, given.save_seconds)
    return allocation.join(given.join) if given.join else allocation.run_sweep()


if __name__ == "__main__":
    sys.exit(main())
