"""The most memory that this process took since counting began: what a trial in a warm rank needs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

_SELF = Path("/proc/self")


def reset_peak() -> None:
    """Count from now. Linux alone can do so for the process's own memory; elsewhere nothing happens."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        (_SELF / "clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM to the memory of now


def peak_bytes() -> int | None:
    """Resident memory of this process at its highest since :func:`reset_peak`; None where the system does not say."""
    with contextlib.suppress(OSError):
        for line in (_SELF / "status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def device_peak_bytes() -> int | None:
    """Memory of the GPU at its highest since :func:`reset_peak`, as torch allocated it; None without a GPU in use."""
    in_use = torch.cuda.is_initialized()
    return int(torch.cuda.max_memory_allocated()) if in_use else None
