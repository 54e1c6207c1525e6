"""``logs --json``: a handle on the first line, then the trial's events and its output as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LogDocument:
    """The first line: whose log follows. Events follow as the ledger has them, output as ``output``.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results; of a job its own.
        trial: The trial's id; empty of a job.
        state: The trial's state, as ``status`` has it; empty of a job.
        following: Whether lines follow until the driver or the job ends.
    """

    document: Literal["log"]
    version: Literal[1]
    name: str
    trial: str
    state: str
    following: bool


@dataclass(frozen=True)
class OutputDocument:
    """A part of what a trial or a job printed.

    Attributes:
        document: Which document this is.
        version: Its version.
        text: The text; what is no text in it is replaced.
    """

    document: Literal["output"]
    version: Literal[1]
    text: str
