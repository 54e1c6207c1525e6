"""Runs expflow's commands for the server, each in a process of its own.

So every call sees the user's modules as they are now, nothing that they do reaches the server, and an answer is what
the same command prints.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import anyio

from expflow.cli.documents.error import ErrorDocument, ErrorProblem, error_document
from expflow.cli.documents.outcome import OutcomeDocument
from expflow.errors import UserError
from expflow.plain_data import plain_data

_PROGRAM = (sys.executable, "-m", "expflow")
_LAST_CHARACTERS = 20_000
"""Of a log, its end is what is asked for."""
_LOOK_SECONDS = 0.1


class CommandRefused(Exception):
    """A command that failed.

    Args:
        document: The error document that it printed.
    """

    def __init__(self, document: ErrorDocument) -> None:
        super().__init__(json.dumps(plain_data(document)))


def command_words(command: str, places: Sequence[str], *options: str, storage: str | None = None) -> list[str]:
    """The words of a command. Names and files stand behind ``--``, so that none of them is taken for an option.

    Args:
        command: The command.
        places: Its arguments.
        options: Its options.
        storage: The folder of all results; None: the site's.
    """
    where = [f"--storage={storage}"] if storage is not None else []
    return [command, *options, *where, *(["--", *places] if places else [])]


async def run_command(words: Sequence[str]) -> Any:
    """What a command answers with ``--json``.

    Args:
        words: Its words.

    Raises:
        CommandRefused: It failed, and said why.
    """
    done = await anyio.run_process([*_PROGRAM, *words], check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise CommandRefused(_error(done.stderr))
    return json.loads(done.stdout)


async def read_text(words: Sequence[str]) -> str:
    """The end of what a command prints for people.

    Args:
        words: Its words.

    Raises:
        CommandRefused: It failed.
    """
    done = await anyio.run_process([*_PROGRAM, *words], check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise CommandRefused(_error(done.stderr))
    return done.stdout.decode(errors="replace")[-_LAST_CHARACTERS:]


def _error(printed: bytes) -> ErrorDocument:
    """The error document, the last thing that a command prints on stderr; what was printed, where there is none."""
    text = printed.decode(errors="replace")
    for start in reversed([match.start() for match in re.finditer(r"^\{", text, re.MULTILINE)]):
        try:
            content = json.loads(text[start:])
            return ErrorDocument(**{**content, "problems": tuple(ErrorProblem(**row) for row in content["problems"])})
        except (ValueError, TypeError, KeyError):
            continue
    return error_document(RuntimeError(text[-_LAST_CHARACTERS:]))


@dataclass(frozen=True)
class _StartedSweep:
    process: subprocess.Popen[bytes]
    printed: IO[bytes]
    complaints: IO[bytes]


class SweepStarter:
    """Starts sweeps that go on when the server ends, as they would in a terminal that is left open."""

    def __init__(self) -> None:
        self._started: dict[str, _StartedSweep] = {}

    async def start(self, words: Sequence[str]) -> Any:
        """Start a sweep; returns its first line, the handle.

        Args:
            words: The words of ``expflow sweep``, with ``--json``.

        Raises:
            CommandRefused: It ended before it began.
        """
        sweep = self._begin(words)
        while not (line := _first_line(sweep.printed)):
            if sweep.process.poll() is not None and not _first_line(sweep.printed):
                raise CommandRefused(_error(_content(sweep.complaints)))
            await anyio.sleep(_LOOK_SECONDS)
        handle = json.loads(line)
        self._started[handle["name"]] = sweep
        return handle

    def outcome(self, name: str) -> OutcomeDocument:
        """How the process of a sweep that was started here ended, or that it is at work.

        Args:
            name: Name of the results.

        Raises:
            CommandRefused: None was started here.
        """
        sweep = self._started.get(name)
        if sweep is None:
            raise CommandRefused(error_document(UserError(f"{name}: this server has not started it")))
        code, complaints = sweep.process.poll(), _content(sweep.complaints)
        error = _error(complaints) if code and complaints else None
        return OutcomeDocument("outcome", 1, name, sweep.process.pid, code is None, code, error)

    def _begin(self, words: Sequence[str]) -> _StartedSweep:
        # Files without a name rather than pipes: nobody has to read on for the sweep to go on.
        printed, complaints = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(  # noqa: S603  # this interpreter; no word is read by a shell
            [*_PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=printed, stderr=complaints, start_new_session=True
        )
        return _StartedSweep(process, printed, complaints)


def _content(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _first_line(file: IO[bytes]) -> bytes:
    line, end, _ = _content(file).partition(b"\n")
    return line if end else b""
