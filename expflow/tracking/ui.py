"""The MLflow UI over a sweep's store, on this machine only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import quote, urlencode, urlsplit

from expflow.errors import ServerUnreachable
from expflow.tracking.store import ENVIRONMENT, bounded_environment, connect, public_uri, sqlite_path

_ROLE = "tags.`expflow.role` = '{}'"

START_SECONDS = 60.0
"""How long the server may take until it answers."""


def is_server(uri: str) -> bool:
    """Whether ``uri`` is a running server's address, which has its own UI."""
    return urlsplit(uri).scheme in ("http", "https")


def serve(uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> subprocess.Popen[bytes]:
    """Start MLflow's server on the store ``uri`` and wait until it answers. The caller ends it with ``terminate``.

    Raises ServerUnreachable when the port is taken or the server does not come up.
    """
    _check_free(host, port)
    names = [f"{name}:{port}" for name in dict.fromkeys((host, "127.0.0.1", "localhost"))]
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}" for name in names)]
    path = sqlite_path(uri)
    if path is not None:
        connect(uri)  # makes the store under our lock
        command += ["--artifacts-destination", (path.parent / "mlartifacts").as_uri()]
    # By the environment, since everybody on the machine can read a command line; no background jobs are wanted.
    own = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(  # noqa: S603 - MLflow's own command
            command, env={**ENVIRONMENT, **os.environ, **own}, stdout=output, stderr=subprocess.STDOUT
        )
        if not _answers(server, f"http://{host}:{port}"):
            server.kill()
            server.wait()
            output.seek(0)
            last = output.read().decode(errors="replace").strip().splitlines()[-5:]
            raise ServerUnreachable(
                f"the MLflow UI on {public_uri(uri)} does not start: {' / '.join(last) or 'no word'}"
            )
    return server


def compare_link(base: str, uri: str, name: str) -> str:
    """The page of the UI at ``base`` that compares the configs of the experiment ``name`` in the store ``uri``.

    Where the experiment has one seed only, and so no config runs, it compares the trials.
    Raises ServerUnreachable where the store does not know the experiment.
    """
    with bounded_environment():
        client = connect(uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            raise ServerUnreachable(f"MLflow at {public_uri(uri)} has no experiment {name!r} yet")
        has_configs = client.search_runs([found.experiment_id], _ROLE.format("config"), max_results=1)
    role = "config" if has_configs else "trial"
    query = urlencode({"searchFilter": _ROLE.format(role), "compareRunsMode": "CHART"}, quote_via=quote)
    return f"{base.rstrip('/')}/#/experiments/{found.experiment_id}/runs?{query}"


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerUnreachable(
                f"{host}:{port} cannot be used for the UI ({error.strerror}); give another --port"
            ) from error


def _answers(server: subprocess.Popen[bytes], base: str) -> bool:
    """Wait until the server answers; False when it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=2.0) as answer:  # noqa: S310
            if answer.status == 200:
                return True
        time.sleep(0.2)
    return False
