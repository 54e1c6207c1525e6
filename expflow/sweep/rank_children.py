"""Ends what ranks have started that were killed, and so could not end it themselves.

A rank leaves a mark in its environment, which whatever it starts inherits, also a daemon that belongs to nobody any
more. A child that was forked and executes nothing else shows the environment of its rank's own beginning, and is not
found.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

RANK_VARIABLE = "EXPFLOW_RANK"
"""Environment variable with the mark of a rank."""


def leave_mark() -> str:
    """Mark this process, and what it will start; returns the mark."""
    mark = uuid.uuid4().hex
    os.environ[RANK_VARIABLE] = mark
    return mark


def end_marked(marks: Collection[str]) -> list[int]:
    """Kill all processes of this user on this machine that were started by some ranks; returns their ids.

    Args:
        marks: The ranks' marks.
    """
    wanted = {f"{RANK_VARIABLE}={mark}".encode() for mark in marks}
    ended = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if wanted & set((process / "environ").read_bytes().split(b"\0")):
                os.kill(int(process.name), signal.SIGKILL)
                ended.append(int(process.name))
    return ended
