"""The folder of a stack of services: passwords, data, logs, and what runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from expflow.errors import StorageUnwritable
from expflow.files import unwritable_named, write_atomically
from expflow.ledger.process_identity import ProcessIdentity
from expflow.redaction import remember_secrets

_PASSWORDS = ("postgresql", "s3")


@dataclass(frozen=True)
class RunningService:
    """A service that was started: its process and the address that it answers at."""

    process: ProcessIdentity
    address: str


class StackFolder:
    """Where a stack keeps everything.

    Args:
        path: The folder; made where it does not exist.

    Raises:
        StorageUnwritable: It cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        with unwritable_named(self.path, "the folder of the services"):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            self.passwords = self._load_passwords()
        """Service -> its password, drawn when the folder was made."""
        remember_secrets({f"{service}_password": password for service, password in self.passwords.items()})

    def log(self, service: str) -> Path:
        """The file of what a service prints.

        Args:
            service: Its name.
        """
        return self.path / f"{service}.log"

    def data(self, service: str) -> Path:
        """The folder of a service's data; made where it does not exist.

        Args:
            service: Its name.
        """
        folder = self.path / service
        folder.mkdir(exist_ok=True)
        return folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Within it no other command starts or ends services of this folder."""
        with unwritable_named(self.path, "the lock of the services"), (self.path / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def running(self) -> dict[str, RunningService]:
        """The services that were started, by name, in the order of their start; their processes may have ended since.

        Raises:
            StorageUnwritable: What runs was written down, and does not read.
        """
        try:
            records = json.loads(self._running.read_text())
            return {
                name: RunningService(ProcessIdentity.from_json(record["process"]), record["address"])
                for name, record in records.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageUnwritable(
                f"{self._running} does not read, which says what runs: {error}. End the services by hand, remove it"
            ) from error

    def note(self, services: dict[str, RunningService]) -> None:
        """Write down what runs.

        Args:
            services: The services by name.
        """
        content = json.dumps({name: asdict(service) for name, service in services.items()}, indent=1)
        with unwritable_named(self._running, "what runs"):
            write_atomically(self._running, content.encode())

    @property
    def _running(self) -> Path:
        return self.path / "running.json"

    def _load_passwords(self) -> dict[str, str]:
        path = self.path / "passwords.json"
        with unwritable_named(path, "the passwords of the services"):
            with contextlib.suppress(FileExistsError):
                # Never readable for others, not even for a moment.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "w") as file:
                    json.dump({name: secrets.token_hex(24) for name in _PASSWORDS}, file, indent=1)
            passwords = json.loads(path.read_text())
        if path.stat().st_mode & 0o077:
            raise StorageUnwritable(f"{path} is readable for others: chmod 600 {path}, or begin with another folder")
        return {name: str(passwords[name]) for name in _PASSWORDS}


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 on which nothing listens.

    Args:
        number: How many.
    """
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [int(probe.getsockname()[1]) for probe in probes]
