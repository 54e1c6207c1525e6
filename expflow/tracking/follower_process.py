"""The follower's process as the driver sees it: start and end. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from expflow.events import Event, TrialEnded, TrialReported
from expflow.files import unwritable_named
from expflow.tracking.follower_progress import is_behind


class FollowerProcess:
    """A running follower. It ends by itself when this process dies, after it has written to MLflow what is in the
    ledger.

    Args:
        process: The process.
        log: The file that it writes its errors to.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log
        """The file that it writes its errors to."""

    def finish(self, timeout_seconds: float) -> bool:
        """Let it write the rest to MLflow and attach the report.

        Call it after the ledger is closed and the report written. A follower that needs longer goes on by itself.

        Args:
            timeout_seconds: How long to wait for it.

        Returns:
            Whether it finished within the time.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            return self._process.wait(timeout_seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    def stop(self) -> None:
        """End it at once. What MLflow did not get stays in the ledger for the next time."""
        self._process.kill()
        self.finish(10.0)


def start_follower(folder: Path, uri: str, *, awaited: bool = True) -> FollowerProcess:
    """Start a process that brings MLflow up to an experiment's ledger.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
        awaited: Whether somebody waits for it; otherwise its session gives way to all others, too.

    Raises:
        StorageUnwritable: Its folder, ``tracking``, cannot be written.
    """
    log = folder.resolve() / "tracking" / "log.txt"
    with unwritable_named(log, "the log of what follows the ledger for MLflow"):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    # The address goes by the environment, since everybody on the machine can read a command line. -P keeps the working
    # folder off the import path: a user's mlflow.py there must not be taken for MLflow. A session of its own keeps
    # Ctrl-C, meant for the driver, from ending it.
    command = [sys.executable, "-P", "-m", "expflow.tracking.follower", str(folder.resolve()), "--parent-pipe"]
    if not awaited:
        command.append("--give-way")
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            start_new_session=True,
        )
    return FollowerProcess(process, log)


class LazyFollower:
    """The follower beside one driver: it is started by the first report, for until then the trials need the machine.

    Where there was none, it is started at the end, unless the store has everything. It is called with each event.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder, self._uri = folder, uri
        self._process: FollowerProcess | None = None
        self.awaited = True
        """Whether somebody waits for it in the end."""

    def __call__(self, event: Event, state: object) -> None:
        """Take in one event and the state after it."""
        if self._process is None and isinstance(event, TrialReported | TrialEnded):
            self._process = start_follower(self._folder, self._uri, awaited=self.awaited)

    def finish(self, timeout_seconds: float) -> bool:
        """Have the rest written; call it after the ledger is closed and the report written.

        Args:
            timeout_seconds: How long to wait. It goes on by itself where it needs longer.

        Returns:
            Whether the store has everything.
        """
        if self._process is None:
            if not is_behind(self._folder, self._uri):
                return True
            self._process = start_follower(self._folder, self._uri, awaited=self.awaited)
        return self._process.finish(timeout_seconds)

    def stop(self) -> None:
        """End it at once. What MLflow did not get stays in the ledger for the next time."""
        if self._process is not None:
            self._process.stop()
