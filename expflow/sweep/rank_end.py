"""How a rank's process ended that is gone: what its log, and the system, tell of it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_EXIT = re.compile(r"^expflow: this process was left with os\._exit\((-?\d+)\)$", re.MULTILINE)
_READ_BYTES = 1 << 16

_SIGNALS = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
}
"""What Python's fault handler, which every rank has, writes before one of these signals ends the process."""


@contextmanager
def exits_noted() -> Iterator[None]:
    """In the body ``os._exit`` writes its code to the standard error first: nobody else could tell it from a kill."""
    leave, own = os._exit, os.getpid()

    def noted(status: int) -> NoReturn:
        if os.getpid() == own:
            sys.stderr.flush()
            os.write(2, f"\nexpflow: this process was left with os._exit({status})\n".encode())
        leave(status)

    os._exit = noted
    try:
        yield
    finally:
        os._exit = leave


def log_size(log: Path) -> int:
    """Bytes of a log; 0 where there is none.

    Args:
        log: The file.
    """
    try:
        return log.stat().st_size
    except OSError:
        return 0


def end_in_words(log: Path, since: int) -> str:
    """How a process ended, by what it has written to its log before it did.

    Args:
        log: The file that its output went to.
        since: Its size when the attempt began.
    """
    text = _written(log, since)
    fatal, left = _FATAL.findall(text), _EXIT.findall(text)
    if fatal and fatal[-1] in _SIGNALS:
        return f"was ended by {_SIGNALS[fatal[-1]].name} ({fatal[-1].lower()}; its log has the stack)"
    if fatal:
        return f"was ended by Python ({fatal[-1]}; its log has the stack)"
    if left:
        return f"was left with exit code {left[-1]} (os._exit)"
    return "was killed by SIGKILL, as the system does where memory runs out"


def _written(log: Path, since: int) -> str:
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = since if since <= size else 0  # it was trimmed meanwhile
            file.seek(max(start, size - _READ_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
