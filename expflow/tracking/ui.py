"""The MLflow UI over a sweep's store, on this machine only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urlencode

from expflow.errors import ServerUnreachable
from expflow.tracking.chart_layout import view_id, view_tag
from expflow.tracking.config_runs import final_metric
from expflow.tracking.naming import safe_key
from expflow.tracking.pending_updates import Role
from expflow.tracking.server_process import server_command, server_environment
from expflow.tracking.store import (
    bounded_environment,
    connect,
    errors_as_unreachable,
    public_uri,
    sqlite_path,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STILL_SECONDS = 60.0
"""How long a server that is starting may do nothing, neither compute nor write a word."""

TELL_SECONDS = 10.0
"""How often its user is told that it is still starting."""


def start_ui(
    uri: str, *, host: str = "127.0.0.1", port: int = 5000, waiting: Callable[[float], None] = lambda seconds: None
) -> subprocess.Popen[bytes]:
    """Start MLflow's server on a store and wait until it answers. The caller ends it with :func:`stop_ui`.

    It is waited for as long as it makes progress: on a busy machine it needs minutes.

    Args:
        uri: The address of the MLflow store.
        host: The address that it listens on.
        port: The port that it listens on.
        waiting: Called now and then, while it starts, with the seconds that it has taken.

    Raises:
        ServerUnreachable: The port is taken, or the server does not come up.
    """
    _check_free(host, port)
    path = sqlite_path(uri)
    if path is not None:
        with bounded_environment(), errors_as_unreachable(uri, "starting the UI"):
            connect(uri)  # makes the store under our lock
    artifacts = (path.parent / "mlartifacts").as_uri() if path is not None else ""
    environment = {**os.environ, **server_environment(uri)}
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(  # noqa: S603 - MLflow's own command
            server_command(host, port, artifacts), env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        healthy = False
        try:
            healthy = _answers(server, f"http://{host}:{port}", output.fileno(), waiting)
        finally:  # also when Ctrl-C comes while it starts
            if not healthy:
                stop_ui(server)
        if not healthy:
            raise ServerUnreachable(f"the MLflow UI on {public_uri(uri)} does not start: {_last_words(output)}")
    return server


def _last_words(output: IO[bytes]) -> str:
    output.seek(0)
    return " / ".join(output.read().decode(errors="replace").strip().splitlines()[-5:]) or "no word"


def compare_link(base: str, uri: str, name: str) -> str:
    """The page of a UI that compares the configs of an experiment.

    Best first, as the newest sweep of that name judges it. Where it has one seed only, and so no config runs, its
    trials are compared.

    Args:
        base: The UI's own address.
        uri: The address of the MLflow store.
        name: The experiment's name.

    Raises:
        ServerUnreachable: The store has no such sweep.
    """
    with bounded_environment(), errors_as_unreachable(uri, f"looking for the configs of {name}"):
        client = connect(uri)
        experiment = client.get_experiment_by_name(name)
        sweeps = _runs(client, experiment.experiment_id, _role("sweep")) if experiment is not None else []
        if experiment is None or not sweeps:
            raise ServerUnreachable(f"MLflow at {public_uri(uri)} has no sweep {name!r} yet")
        tags = sweeps[0].data.tags
        mine = f" and tags.`expflow.sweep` = '{tags['expflow.sweep']}'"
        role: Role = "config" if _runs(client, experiment.experiment_id, _role("config") + mine) else "trial"
    query = {"compareRunsMode": "CHART", "workflowType": "machine_learning"}
    if view_tag(experiment.tags, tags["expflow.sweep"]) is not None:
        query = {"viewStateShareKey": view_id(tags["expflow.sweep"]), **query}
    else:  # written by an expflow that saved no view
        query = {**_order(tags, role), **query, "searchFilter": _role(role) + (mine if len(sweeps) > 1 else "")}
    return f"{base.rstrip('/')}/#/experiments/{experiment.experiment_id}/runs?{urlencode(query, quote_via=quote)}"


def _order(tags: Mapping[str, str], role: Role) -> dict[str, str]:
    metric = final_metric(tags["expflow.metric"]) if role == "config" else tags["expflow.metric"]
    # Any order but that of time makes the UI show runs side by side; otherwise it hides them under the sweep's.
    by = f"metrics.`{safe_key(metric)}`"
    return {"orderByKey": by, "orderByAsc": "true" if tags.get("expflow.mode") == "min" else "false"}


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


def stop_ui(server: subprocess.Popen[bytes]) -> None:
    """End a server that :func:`start_ui` started, and its worker; nothing happens where it ended by itself.

    Args:
        server: The server's process.
    """
    server.terminate()  # it takes its worker with it; a kill would not
    try:
        server.wait(10.0)
    except subprocess.TimeoutExpired:  # its worker waits for a request that does not end
        workers = _below(server.pid)
        server.kill()
        server.wait()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def _answers(server: subprocess.Popen[bytes], base: str, output: int, waiting: Callable[[float], None]) -> bool:
    """Wait until the server answers; False when it ended, or did nothing for too long."""
    begun = active_at = told_at = time.monotonic()
    activity = (0.0, 0)
    while server.poll() is None and time.monotonic() - active_at < STILL_SECONDS:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=2.0) as answer:  # noqa: S310
            if answer.status == 200:
                return True
        now, before, activity = time.monotonic(), activity, (_cpu_seconds(server.pid), os.fstat(output).st_size)
        if activity != before:
            active_at = now
        if now - told_at > TELL_SECONDS:
            told_at = now
            waiting(now - begun)
        time.sleep(0.2)
    return False


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and those below it; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_seconds(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _below(pid: int) -> list[int]:
    """The processes below a process; none where the system does not tell."""
    return [process for child in _children(pid) for process in (child, *_below(child))]
