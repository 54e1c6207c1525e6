"""Starting and ending the follower process from the driver. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path


class FollowerProcess:
    """A running follower. It ends by itself when this process dies, after telling MLflow what is in the ledger."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log
        """Where it says what went wrong."""

    def finish(self, timeout_seconds: float) -> bool:
        """Let it tell MLflow the rest and attach the report; returns whether it did within the time.

        Call it after the ledger is closed and the report written. A follower that needs longer goes on by itself.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            return self._process.wait(timeout_seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    def stop(self) -> None:
        """End it at once. What MLflow was not told stays in the ledger for the next time."""
        self._process.kill()
        self.finish(10.0)


def start(folder: Path, uri: str) -> FollowerProcess:
    """Let MLflow at ``uri`` follow the ledger of the experiment folder ``folder``, in a process of its own."""
    log = folder.resolve() / "tracking" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    # The address goes by the environment, since everybody on the machine can read a command line. -P keeps the working
    # folder off the import path: a user's mlflow.py there must not be taken for MLflow. A session of its own keeps
    # Ctrl-C, meant for the driver, from ending it.
    command = [sys.executable, "-P", "-m", "expflow.tracking.follower", str(folder.resolve()), "--parent-pipe"]
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
