"""What can be done after a command that has begun something, as argument lists that a program can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class NextCommand:
    """Something that can be done now.

    Attributes:
        action: What it is.
        arguments: The command, an argument each.
    """

    action: Literal["plan", "sweep", "follow", "stop", "status", "read_log", "train"]
    arguments: tuple[str, ...]
