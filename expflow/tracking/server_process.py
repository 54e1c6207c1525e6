"""How MLflow's server is started: for one machine's names, with no background jobs, and no secret in its command."""

from __future__ import annotations

import os
import sys

from expflow.tracking.store import ENVIRONMENT


def server_command(host: str, port: int, artifacts: str = "", *, workers: int = 1) -> list[str]:
    """The command of a server. It answers requests for this machine's names alone, and hands artifacts through, so that
    its clients need no keys of the store in which they lie.

    Args:
        host: The address that it listens on.
        port: The port that it listens on.
        artifacts: Where it keeps artifacts; empty for MLflow's default.
        workers: Number of processes that answer requests.
    """
    names = [f"{name}:{port}" for name in dict.fromkeys((host, "127.0.0.1", "localhost"))]
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--workers", str(workers)]
    command += ["--app-name", "expflow"]  # MLflow's own app takes writes from pages of other origins
    command += ["--allowed-hosts", ",".join(names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}" for name in names)]
    return command + (["--artifacts-destination", artifacts] if artifacts else [])


def server_environment(uri: str) -> dict[str, str]:
    """The variables that a server is started with, beside those of its parent.

    Args:
        uri: The address of its database; it goes by the environment, since everybody on the machine can read a command
            line.
    """
    usual = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    return {**usual, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
