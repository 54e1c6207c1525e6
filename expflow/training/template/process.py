"""The template as its driver holds it: started once, asked for calls, ended with the driver."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expflow.training.allocator import TUNABLES
from expflow.training.template import shim

TEMPLATE_VARIABLE = "EXPFLOW_TEMPLATE"
"""Environment variable; ``off`` starts no template, so that every rank imports what it needs by itself."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""No library may start threads of its own as it is imported: they would be missing in a fork."""

SOCKET = "socket"
"""Name of the template's socket in its folder."""

BACKLOG = 1024
"""Requests that may wait while the template imports."""

_LONGEST_ADDRESS = 100
"""Bytes that the path of a socket may have (108 with its end)."""

_SEND_SECONDS = 60.0
"""What the template gets to take in a call: it may be importing."""

_END_SECONDS = 5.0

MOST_STARTS = 4
"""How often one template is started at most: what kills it again and again, such as too little memory, goes on."""


class TemplateLost(Exception):
    """The template cannot answer a call, for a reason that concerns nobody who can do without it."""


class RankTemplate:
    """A template for this machine's ranks, which ends with the body of a ``with``. It is started when it is first
    needed, and again when it was killed; there may be none.

    Args:
        paths: Folders that calls import from first.
        wanted: Whether ranks need what it imports.
    """

    def __init__(self, paths: Sequence[str] = (), *, wanted: bool = True) -> None:
        self._paths, self._wanted = [str(Path(path).absolute()) for path in paths], wanted
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._starts = 0
        self._starting = threading.Lock()

    def __enter__(self) -> RankTemplate:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> bool:
        """Start the template, unless it runs or has ended by itself; it imports while this process goes on.

        Its address stays the same, so ranks of before and after find the one that there is.

        Returns:
            Whether there is one.
        """
        with self._starting:
            if self._wanted and self._is_missing() and is_supported():
                with contextlib.suppress(OSError):  # no memory, no processes left, no room: ranks import by themselves
                    self._start()
            return self._process is not None and self._process.poll() is None

    def _is_missing(self) -> bool:
        """Whether there was none yet, or a signal has killed it. One that has ended by itself would do so again."""
        ended = None if self._process is None else self._process.poll()
        return self._starts < MOST_STARTS and (self._process is None or (ended is not None and ended < 0))

    def _start(self) -> None:
        self._starts += 1
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # the lifeline of the one before
        self._folder = folder = self._folder or _own_folder()
        # -P keeps the working folder off the import path: a user's torch.py there must not be taken for torch. A
        # session of its own keeps Ctrl-C, meant for the driver, from its forks.
        command = [sys.executable, "-P", "-m", "expflow.training.template.server", str(folder / SOCKET)]
        with _listen(folder / SOCKET) as listener, (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*command, str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict([TUNABLES]) | dict(os.environ) | _ONE_THREAD,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )

    @property
    def executable(self) -> str:
        """What Ray executes for a rank in place of Python, as words of a shell; empty where there is no template."""
        if self._folder is None:
            return ""
        return shlex.join([sys.executable, "-I", "-S", shim.__file__, str(self._folder / SOCKET)])

    @property
    def pid(self) -> int | None:
        """The template's process id; None where there is none."""
        return self._process.pid if self._process is not None else None

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function in a fork of the template, which has torch.

        Args:
            function: Dotted path of the function, ``package.module:name``.
            arguments: What it is called with; they are pickled, as is what it returns.

        Raises:
            TemplateLost: There is no template, or the function has raised.
        """
        if not self.start() or self._process is None or self._folder is None:
            raise TemplateLost("there is no template of ranks")
        request = {"kind": "call", "call": function, "paths": self._paths, "folder": str(Path.cwd())}
        content = pickle.dumps(arguments)  # first, since it may fail
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_SEND_SECONDS)
                connection.connect(str(self._folder / SOCKET))
                connection.sendall(b"F")
                shim.send_frame(connection, json.dumps(request).encode())
                shim.send_frame(connection, content)
                shim.wait_for_answer(connection, self._process.pid)
                return pickle.loads(shim.receive_frame(connection))  # noqa: S301  our own fork has sent it
        except (OSError, EOFError) as error:
            raise TemplateLost(f"the template of ranks does not answer: {error}") from error

    def close(self) -> None:
        """End the template. Its forks go on."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            if process.stdin is not None:
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _own_folder() -> Path:
    """A folder for this user alone, whose path is short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="expflow-template-"))
    if len(os.fsencode(folder / SOCKET)) > _LONGEST_ADDRESS:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="expflow-template-", dir="/tmp"))
    return folder


def _listen(address: Path) -> socket.socket:
    """A socket that only this user can open. It listens from the beginning, so nobody has to wait for the template."""
    address.unlink(missing_ok=True)  # of a template that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(address))
    address.chmod(0o600)  # before anybody can connect
    listener.listen(BACKLOG)
    return listener


def is_supported() -> bool:
    """Whether this machine can fork ranks, and its user has not turned it off."""
    return sys.platform == "linux" and os.environ.get(TEMPLATE_VARIABLE, "") != "off"
