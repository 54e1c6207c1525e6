"""``sweep_outcome`` and ``stop_sweep`` of ``python -m expflow.mcp``: the process of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expflow.cli.documents.error import ErrorDocument


@dataclass(frozen=True)
class OutcomeDocument:
    """The process of a sweep: at work, or how it ended.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        pid: Its process id.
        running: Whether it is at work; one that was asked to stop is, until everything is saved.
        exit_code: Its exit code; None while it is at work.
        error: What it complained of; None where it did not.
    """

    document: Literal["outcome"]
    version: Literal[1]
    name: str
    pid: int
    running: bool
    exit_code: int | None
    error: ErrorDocument | None
