"""What a service is to the stack: whether it can be had here, and how it is started."""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypedDict

from expflow.errors import ServerUnreachable
from expflow.services.stack_folder import StackFolder


@dataclass(frozen=True)
class ServiceCommand:
    """How a service is started.

    Attributes:
        command: Program and arguments; no secrets, since everybody on the machine can read a command line.
        address: Where it answers.
        is_ready: Whether it answers.
        environment: Variables beside those of this process.
        user: The user it runs as; None: this one.
        once_ready: What is to be done when it answers.
    """

    command: list[str]
    address: str
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    once_ready: Callable[[], None] = lambda: None


class Service(ABC):
    """One service of the stack.

    Args:
        folder: The stack's folder.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Services that have to run before it."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    usual_port: ClassVar[int] = 0
    """Where its users look for it; 0: nobody but other services does, so any port will do."""

    def __init__(self, folder: StackFolder) -> None:
        self.folder = folder

    @abstractmethod
    def missing(self) -> str:
        """What has to be installed for it; empty where it can be started."""

    @abstractmethod
    def command(self, port: int, addresses: Mapping[str, str]) -> ServiceCommand:
        """How it is started.

        Args:
            port: The port that it listens on, of 127.0.0.1.
            addresses: The addresses of what it needs, by name.

        Raises:
            ServerUnreachable: It cannot be prepared.
        """


def answers(url: str) -> bool:
    """Whether a server answers a request, with whatever status but an error of its own.

    Args:
        url: An http address.
    """
    try:
        with urllib.request.urlopen(url, timeout=2.0):  # noqa: S310 - an address of our own on loopback
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def run_once(command: list[str], *, user: str | None, what: str) -> None:
    """Run a program to its end.

    Args:
        command: Program and arguments.
        user: The user it runs as; None: this one.
        what: What it does, for the error.

    Raises:
        ServerUnreachable: It failed; with what it printed.
    """
    done = subprocess.run(  # noqa: S603 - a service's own program
        command, capture_output=True, text=True, check=False, cwd="/", **as_user(user)
    )
    if done.returncode:
        words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise ServerUnreachable(f"{what}: {Path(command[0]).name} failed: {words}")


class ProcessUser(TypedDict, total=False):
    """Arguments of :mod:`subprocess`."""

    user: str
    group: int
    extra_groups: list[str]


def as_user(user: str | None) -> ProcessUser:
    """Arguments with which :mod:`subprocess` starts a process as another user.

    Args:
        user: The user; None: this one.
    """
    if user is None:
        return {}
    import pwd

    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
