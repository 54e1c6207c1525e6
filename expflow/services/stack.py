"""Starting and ending the services of a folder, in the order in which they need each other."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from expflow.errors import ServerUnreachable
from expflow.ledger.process_identity import ProcessIdentity
from expflow.redaction import redacted
from expflow.services.mlflow_server import MLflowServer
from expflow.services.object_store import ObjectStore
from expflow.services.postgresql import PostgreSQL
from expflow.services.prometheus_server import PrometheusServer
from expflow.services.service import Service, ServiceCommand, as_user
from expflow.services.stack_folder import RunningService, StackFolder, free_ports

SERVICES: tuple[type[Service], ...] = (PostgreSQL, ObjectStore, MLflowServer, PrometheusServer)
"""In the order of their start."""

START_SECONDS = 600.0
STOP_SECONDS = 30.0


class ServiceStack:
    """The services of one folder.

    Args:
        folder: The folder.
        print_line: Called with a line for people about each step.
    """

    def __init__(self, folder: StackFolder, print_line: Callable[[str], None] = lambda line: None) -> None:
        self._folder, self._print_line = folder, print_line

    def up(self, names: Sequence[str] = (), ports: dict[str, int] | None = None) -> None:
        """Start what does not run, and wait until it answers.

        Args:
            names: The services, and with them what they need; none: all that can be had here.
            ports: Ports by service, where others than the usual ones are wanted; 0 takes any.

        Raises:
            ServerUnreachable: One of them is missing, or does not start. The others go on.
        """
        chosen = self._chosen(names)
        with self._folder.locked():
            running = self._folder.running()
            for service in chosen:
                why = service.missing()
                if why and names:
                    raise ServerUnreachable(f"{service.name} needs {why}")
                if why:
                    self._print_line(f"{service.name:<11} left out: it needs {why}")
                    continue
                before = running.get(service.name)
                if before is None or before.process.is_dead() is not False:
                    port = _port(service, before, (ports or {}).get(service.name))
                    addresses = {name: running[name].address for name in service.needs}
                    running[service.name] = self._start(service, service.command(port, addresses), running)
                self._print_line(f"{service.name:<11} {running[service.name].address}")

    def down(self, names: Sequence[str] = ()) -> None:
        """End services, those first that need others. Their data stay.

        Args:
            names: The services; none: all.
        """
        with self._folder.locked():
            running = self._folder.running()
            for service in reversed(self._chosen(names, with_needs=False)):
                if service.name in running and running[service.name].process.is_dead() is False:
                    _stop(running[service.name].process, service.stop_signal)
                    self._print_line(f"{service.name:<11} stopped")

    def status(self) -> Iterator[tuple[str, str, bool]]:
        """Each service that was ever started: name, address, and whether its process runs."""
        for name, service in self._folder.running().items():
            yield name, service.address, service.process.is_dead() is False

    def _chosen(self, names: Sequence[str], *, with_needs: bool = True) -> list[Service]:
        known = {kind.name: kind for kind in SERVICES}
        wanted = set(names) or set(known)
        if with_needs:
            wanted |= {need for name in wanted for need in known[name].needs}
        return [kind(self._folder) for kind in SERVICES if kind.name in wanted]

    def _start(self, service: Service, command: ServiceCommand, running: dict[str, RunningService]) -> RunningService:
        log = self._folder.log(service.name)
        # Keys of the user's own are for another store, and would be taken beside this one's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - a service's own program
                command.command,
                env={**inherited, **command.environment},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(command.user),
            )
        started = RunningService(ProcessIdentity.of(process.pid), command.address)
        # Written down before it answers: a command that is interrupted leaves nothing that `down` does not know.
        self._folder.note({**running, service.name: started})
        end = time.monotonic() + START_SECONDS
        while not command.is_ready():
            if process.poll() is not None or time.monotonic() > end:
                if process.poll() is None:
                    _stop(started.process, service.stop_signal)
                words = " / ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
                raise ServerUnreachable(f"{service.name} does not start: {redacted(words)} ({log})")
            time.sleep(0.1)
        command.once_ready()
        process.returncode = 0  # it lives on, and is nobody's child that would have to be waited for
        return started


def _port(service: Service, before: RunningService | None, wanted: int | None) -> int:
    """The port that was asked for, else that of the last time, else the usual one, else any."""
    known = (urlsplit(before.address).port or 0) if before is not None else service.usual_port
    port = known if wanted is None else wanted
    if port and not _is_free(port):
        if before is not None and wanted is None and not service.usual_port:
            return free_ports(1)[0]
        raise ServerUnreachable(f"something listens on 127.0.0.1:{port}, the port of {service.name}; choose another")
    return port or free_ports(1)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _stop(process: ProcessIdentity, number: signal.Signals) -> None:
    """End a service; whichever process of it does not end by itself is killed."""
    os.kill(process.pid, number)
    end = time.monotonic() + STOP_SECONDS
    while process.is_dead() is False and time.monotonic() < end:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):  # it leads a session of its own
        os.killpg(process.pid, signal.SIGKILL)
