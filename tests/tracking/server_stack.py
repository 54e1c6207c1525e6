"""MLflow on PostgreSQL, with artifacts in an S3 store, as ``python -m expflow.services`` starts them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

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
        stack.call("down")
        shutil.rmtree(folder, ignore_errors=True)
