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
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from expflow.errors import ServerUnreachable
from expflow.tracking.configs import final_metric
from expflow.tracking.naming import safe_key
from expflow.tracking.pending import Role
from expflow.tracking.store import ENVIRONMENT, bounded_environment, connect, public_uri, refusals_named, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

START_SECONDS = 60.0
"""How long the server may take until it answers."""


def is_server(uri: str) -> bool:
    """Whether ``uri`` is a running server's address, which has its own UI."""
    return urlsplit(uri).scheme in ("http", "https")


def serve(uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> subprocess.Popen[bytes]:
    """Start MLflow's server on the store ``uri`` and wait until it answers. The caller ends it with :func:`end`.

    Raises ServerUnreachable when the port is taken or the server does not come up.
    """
    _check_free(host, port)
    names = [f"{name}:{port}" for name in dict.fromkeys((host, "127.0.0.1", "localhost"))]
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}" for name in names)]
    path = sqlite_path(uri)
    if path is not None:
        with bounded_environment(), refusals_named(uri, "starting the UI"):
            connect(uri)  # makes the store under our lock
        command += ["--artifacts-destination", (path.parent / "mlartifacts").as_uri()]
    # By the environment, since everybody on the machine can read a command line; no background jobs are wanted.
    own = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(  # noqa: S603 - MLflow's own command
            command, env={**ENVIRONMENT, **os.environ, **own}, stdout=output, stderr=subprocess.STDOUT
        )
        healthy = False
        try:
            healthy = _answers(server, f"http://{host}:{port}")
        finally:  # also when Ctrl-C comes while it starts
            if not healthy:
                end(server)
        if not healthy:
            output.seek(0)
            last = output.read().decode(errors="replace").strip().splitlines()[-5:]
            raise ServerUnreachable(
                f"the MLflow UI on {public_uri(uri)} does not start: {' / '.join(last) or 'no word'}"
            )
    return server


def compare_link(base: str, uri: str, name: str) -> str:
    """The page of the UI at ``base`` that compares the configs of the experiment ``name`` in the store ``uri``.

    Best first, as the newest sweep of that name judges it. Where it has one seed only, and so no config runs, its
    trials are compared. Raises ServerUnreachable where the store does not know the sweep.
    """
    with bounded_environment(), refusals_named(uri, f"looking for the configs of {name}"):
        client = connect(uri)
        found = client.get_experiment_by_name(name)
        sweeps = _runs(client, found.experiment_id, _role("sweep")) if found is not None else []
        if found is None or not sweeps:
            raise ServerUnreachable(f"MLflow at {public_uri(uri)} has no sweep {name!r} yet")
        tags = sweeps[0].data.tags
        mine = f" and tags.`expflow.sweep` = '{tags['expflow.sweep']}'"
        role: Role = "config" if _runs(client, found.experiment_id, _role("config") + mine) else "trial"
    metric = final_metric(tags["expflow.metric"]) if role == "config" else tags["expflow.metric"]
    query = {
        "searchFilter": _role(role) + (mine if len(sweeps) > 1 else ""),
        # Any order but that of time makes the UI show runs side by side; otherwise it hides them under the sweep's.
        "orderByKey": f"metrics.`{safe_key(metric)}`",
        "orderByAsc": "true" if tags.get("expflow.mode") == "min" else "false",
        "compareRunsMode": "CHART",
        "workflowType": "machine_learning",
    }
    return f"{base.rstrip('/')}/#/experiments/{found.experiment_id}/runs?{urlencode(query, quote_via=quote)}"


def _role(role: Role) -> str:
    return f"tags.`expflow.role` = '{role}'"


def _runs(client: MlflowClient, experiment: str, condition: str) -> list[Run]:
    """The newest few runs that fulfil ``condition``."""
    return list(client.search_runs([experiment], condition, max_results=2, order_by=["attributes.start_time DESC"]))


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerUnreachable(
                f"{host}:{port} cannot be used for the UI ({error.strerror}); give another --port"
            ) from error


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server that :func:`serve` started, and its worker; nothing happens where it ended by itself."""
    server.terminate()  # it takes its worker with it; a kill would not
    try:
        server.wait(10.0)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _answers(server: subprocess.Popen[bytes], base: str) -> bool:
    """Wait until the server answers; False when it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=2.0) as answer:  # noqa: S310
            if answer.status == 200:
                return True
        time.sleep(0.2)
    return False
