"""How the remote agent is called, whatever carries the call: source and arguments go in by the standard input."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from expflow.cluster import remote_agent
from expflow.cluster.result_fetching import arriving
from expflow.errors import ServerUnreachable

BOOTSTRAP = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
"""Python text that runs the script whose length the first line of the standard input tells; what follows is data."""


def agent_script(action: str, **arguments: Any) -> bytes:
    """What :data:`BOOTSTRAP` reads to carry out one action of the remote agent.

    Args:
        action: The action.
        **arguments: Its arguments.
    """
    call = f"main({action!r}, {arguments!r}, sys.stdin.buffer.read())\n"
    script = f"{Path(remote_agent.__file__).read_text()}\n{call}".encode()
    return f"{len(script)}\n".encode() + script


def receive_results(command: Sequence[str], script: bytes, target: Path, failed: str) -> None:
    """Bring the folder home that the agent's ``send`` or ``send_folder`` writes. Raises also what
    :func:`~expflow.cluster.result_fetching.arriving` raises.

    Args:
        command: The command that runs :data:`BOOTSTRAP` there.
        script: What it reads.
        target: The experiment's folder here.
        failed: The beginning of the error's message.

    Raises:
        ServerUnreachable: Not everything arrived.
    """
    with (
        arriving(target) as folder,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as errors,
    ):
        given.write(script)
        given.seek(0)
        with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=errors) as process:  # noqa: S603
            try:
                _unpack(cast("IO[bytes]", process.stdout), folder)
            except (tarfile.TarError, EOFError, OSError) as error:
                process.kill()
                process.wait()
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines() or [str(error)]
                raise ServerUnreachable(f"{failed}: {lines[-1]}") from error


def _unpack(stream: IO[bytes], folder: Path) -> None:
    """Unpack what the remote agent sends; what a login prints stands before."""
    while line := stream.readline():
        if line == remote_agent.TAR_MARK:
            break
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:
        archive.extractall(folder, filter="data")
    if stream.read():
        raise tarfile.ReadError("something follows the results")
