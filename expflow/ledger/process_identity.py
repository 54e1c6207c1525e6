"""The identity of a process, which also holds after a restart of the machine: a dead lock owner must be told from a
live one."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.field_types import check_field_types

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessIdentity:
    """What identifies a process so that no later one is taken for it."""

    host: str
    machine: str
    """The installation's id, since two machines can share a host name; "" where the system has none."""
    boot: str
    """The boot during which it runs; "" where the system does not say."""
    namespace: str
    """The container's set of process ids; "" where the system has none."""
    pid: int
    started: str
    """When the process began, in the system's own unit; only compared for equality."""

    @classmethod
    def current(cls) -> ProcessIdentity:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """A process of this machine.

        Args:
            pid: Its process id.
        """
        return cls(
            host=socket.gethostname(),
            machine=_text(Path("/etc/machine-id")),
            boot=_text(_PROC / "sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=pid,
            started=_started(pid) or "",
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProcessIdentity:
        """The process that ``dataclasses.asdict`` described.

        Args:
            data: The fields by name.

        Raises:
            KeyError: One is missing. Also TypeError.
            TypeError: One is not of its type.
        """
        check_field_types(cls, data)
        return cls(**{key: data[key] for key in cls.__dataclass_fields__})

    def is_dead(self) -> bool | None:
        """Whether this process has ended; None where that cannot be known from here (another host or container)."""
        here = ProcessIdentity.current()
        if (self.host, self.machine) != (here.host, here.machine):
            return None
        if self.boot != here.boot:
            return True if self.machine else None  # without an id it may be another machine of that name
        if self.namespace != here.namespace:
            return None
        return _started(self.pid) != self.started


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()  # a process may call itself anything
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """The start time of a running process; None when there is none, or only its unreaped remains."""
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(pid)
    stat = _text(_PROC / str(pid) / "stat")
    # proc(5): "pid (name) state ppid …"; the name may hold anything, so fields count from its last parenthesis.
    fields = stat.rpartition(")")[2].split()
    if not fields or fields[0] in "ZX":
        return None
    return fields[19]  # starttime, in clock ticks since boot


def _started_by_ps(pid: int) -> str | None:
    """The same where there is no /proc (macOS)."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]  # both columns are POSIX or BSD, argument is a number
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    state, _, started = answer.partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
