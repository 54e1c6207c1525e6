"""The priority of processes that fill MLflow: behind the trials."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOWEST = 19
"""The lowest priority, as ``nice`` counts it."""
SESSION = Path("/proc/self/autogroup")
"""Linux shares the processor out among sessions before it looks at the priorities within them, where it is so built
(``sched_autogroup_enabled``): a process that leads a session of its own has to lower the session's, too."""
SESSION_PRIORITY = 10
"""A ninth of what a session without a priority gets: at the lowest, a seventieth, a busy machine would keep pages of
MLflow empty for minutes."""


def run_behind_everything(*, session: bool) -> None:
    """Lower the priority of this process, as far as the system allows.

    Args:
        session: Whether that of its session is lowered as well, where it leads one. Nobody should wait for it then.
    """
    with contextlib.suppress(OSError):  # some sandboxes forbid it
        os.nice(LOWEST)
    if not session or os.getsid(0) != os.getpid():
        return
    with contextlib.suppress(OSError):  # another system, or a kernel without it
        SESSION.write_text(str(SESSION_PRIORITY), encoding="ascii")
