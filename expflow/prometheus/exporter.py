"""Serves a sweep's metrics to Prometheus while its driver works, and says where by a file for its discovery."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from expflow.config.site import MetricsExport
from expflow.errors import ServerUnreachable, StorageUnwritable
from expflow.files import write_atomically
from expflow.prometheus.sweep_metrics import SweepMetrics

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound without the user's word


@contextlib.contextmanager
def exported(metrics: SweepMetrics, settings: MetricsExport, name: str) -> Iterator[str]:
    """Answer scrapes at ``/metrics`` for as long as the context is open.

    A registry of its own keeps what the libraries of this process count out of the answers.

    Args:
        metrics: What is served.
        settings: Where.
        name: The sweep's name; that of the discovery file, too.

    Yields:
        The address, as ``host:port``.

    Raises:
        ServerUnreachable: Nothing can listen there.
        StorageUnwritable: The discovery file cannot be written.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    try:
        server, thread = start_http_server(settings.port, settings.address, registry)
    except (OSError, OverflowError) as error:
        raise ServerUnreachable(
            f"metrics cannot be served at {settings.address}:{settings.port}: {error}. Choose another `metrics.port` in"
            " the site file or --metrics-port; 0 takes any free port"
        ) from error
    try:
        host = socket.gethostname() if settings.address in _EVERYWHERE else settings.address
        address = f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
        with _discoverable(settings.discovery, name, address):
            yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def _discoverable(folder: Path | None, name: str, address: str) -> Iterator[None]:
    """Leave a file of one target in ``folder``.

    It stays behind a driver that was killed: its target is then down, which is what the alert for a lost driver sees.
    The next driver of the sweep on this address takes its place.
    """
    if folder is None:
        yield
        return
    path = folder / f"{name}.json"
    target = [{"targets": [address], "labels": {"sweep": name}}]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(target).encode())
    except OSError as error:
        raise StorageUnwritable(f"{path} cannot be written, which tells Prometheus of this sweep: {error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
