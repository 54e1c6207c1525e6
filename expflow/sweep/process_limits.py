"""What the system lets this user have: open files and processes. Ray ends without a word for want of them.

See getrlimit(2). A shell shows and sets them by ``ulimit -n`` and ``ulimit -u``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from expflow.errors import LimitTooLow

FILES_NEEDED = 512
"""Files and connections that Ray's processes may each have open, at the least, on a machine of its own."""

FILES_WANTED = 8192
"""What is asked for where the system allows more than is set; Ray recommends it, too."""

TASKS_OF_RAY = 300
"""Processes and threads of Ray's own processes, of the driver and the dispatcher."""

TASKS_OF_RANK = 60
"""Processes and threads that one rank takes."""


def check_process_limits(ranks: int) -> None:
    """Raise this process's limit of open files as far as that is allowed, and refuse to start with too low ones.

    Args:
        ranks: Ranks that will run at once.

    Raises:
        LimitTooLow: Ray would not start, or lose its processes.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _less(soft, FILES_WANTED):
        wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if _less(soft, FILES_NEEDED):
        raise LimitTooLow(
            f"a process may have {soft} files open here, and Ray needs {FILES_NEEDED} at the least: raise the limit "
            f"(`ulimit -n {FILES_WANTED}`, or nofile in /etc/security/limits.conf) and try again"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    free = limit - tasks_of_user()
    needed = TASKS_OF_RAY + ranks * TASKS_OF_RANK
    if os.geteuid() != 0 and limit != resource.RLIM_INFINITY and free < needed:
        raise LimitTooLow(
            f"you may have {limit} processes and threads here, of which {max(free, 0)} are free; Ray and {ranks} ranks "
            f"take about {needed}: raise the limit (`ulimit -u`, or nproc in /etc/security/limits.conf), or lower "
            "resources.max_concurrent"
        )


def _less(limit: int, needed: int) -> bool:
    return 0 <= limit < needed  # no limit is a negative number


def tasks_of_user() -> int:
    """Processes and threads of this user that the system counts now; 0 where it does not tell."""
    count, user = 0, os.getuid()
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == user:
                    count += len(list((entry / "task").iterdir()))
    return count
