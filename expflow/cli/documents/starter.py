"""``init --json``: the file that was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expflow.cli.documents.next_command import NextCommand


@dataclass(frozen=True)
class StarterDocument:
    """A first experiment.

    Attributes:
        document: Which document this is.
        version: Its version.
        file: The file that was written.
        next: What can be done now.
    """

    document: Literal["init"]
    version: Literal[1]
    file: str
    next: tuple[NextCommand, ...]


def starter_document(file: str) -> StarterDocument:
    """A file that was written, as plain data.

    Args:
        file: The file, as a command takes it.
    """
    steps = (NextCommand("plan", ("expflow", "plan", file)), NextCommand("sweep", ("expflow", "sweep", file)))
    return StarterDocument("init", 1, file, steps)
