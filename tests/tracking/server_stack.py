"""MLflow on PostgreSQL, with artifacts in an S3 store, as ``python -m expflow.services`` starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from expflow.ledger.process_identity import ProcessIdentity

MISSING = 3
"""Exit code where a service cannot be had."""


@dataclass(frozen=True)
class ServerStack:
    """A stack that runs.

    Attributes:
        folder: Its folder.
        uri: The address of its MLflow server.
    """

    folder: Path
    uri: str

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of ``expflow.services`` on it."""
        command = [sys.executable, "-m", "expflow.services", *words, "--folder", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)

    def restart_mlflow(self) -> None:
        """End the MLflow server, as for an upgrade, and start it again at the same address."""
        assert self.call("down", "mlflow").returncode == 0
        again = self.call("up", "mlflow")
        assert again.returncode == 0, again.stderr
        assert self.uri in again.stdout

    def kill_store(self) -> None:
        """End the S3 store at once; in order it takes a quarter of a minute, and nobody needs its data any more."""
        records = self.folder / "running.json"
        store = json.loads(records.read_text()).get("s3") if records.exists() else None
        if store and (process := ProcessIdentity.from_json(store["process"])).is_dead() is False:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def running_stack() -> Iterator[ServerStack]:
    """A stack in a folder of its own, which goes at the end; the test is skipped where one cannot be had."""
    # Not below pytest's folder, which is closed to the user that PostgreSQL runs as where root runs the tests.
    folder = Path(tempfile.mkdtemp(prefix="expflow-stack-", dir="/tmp"))
    folder.chmod(0o755)
    stack = ServerStack(folder / "services", "")
    try:
        up = stack.call("up", "mlflow", "--port", "0")
        if up.returncode == MISSING and " needs " in up.stderr:
            pytest.skip(up.stderr.strip())
        assert up.returncode == 0, up.stdout + up.stderr
        yield ServerStack(stack.folder, up.stdout.rsplit("MLFLOW_TRACKING_URI=", 1)[1].strip())
    finally:
        stack.kill_store()
        stack.call("down")
        shutil.rmtree(folder, ignore_errors=True)
