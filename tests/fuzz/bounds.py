"""What a reader of bytes that are not trusted may take: 2 CPU seconds and 500 MB, for each answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPU_SECONDS = 2.0
MEGABYTES = 500

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def within_bounds(what: str) -> Iterator[None]:
    """Fail where the body takes more.

    Args:
        what: What is read, for the message.
    """
    before = _reset_peak()
    began = time.process_time()
    yield
    seconds = time.process_time() - began
    megabytes = _megabytes("VmHWM") - before
    assert seconds < CPU_SECONDS, f"{what}: {seconds:.1f} CPU seconds"
    assert megabytes < MEGABYTES, f"{what}: {megabytes:.0f} MB"


def _reset_peak() -> float:
    """Begin to measure the peak anew; returns what the process has now, in MB."""
    _CLEAR.write_text("5", encoding="ascii")  # proc(5): resets VmHWM
    return _megabytes("VmRSS")


def _megabytes(name: str) -> float:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1000
    raise OSError(f"no {name} in {_STATUS}")
