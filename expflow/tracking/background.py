"""The priority of processes that nobody waits for: behind everything else on the machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOWEST = 19
"""The lowest priority, as ``nice`` counts it."""
SESSION = Path("/proc/self/autogroup")
"""Linux shares the processor out among sessions before it looks at the priorities within them, where it is so built
(``sched_autogroup_enabled``): a process that leads a session of its own has to lower the session's, too."""


def run_behind_everything() -> None:
    """Lower the priority of this process, and of its session where that counts, as far as the system allows."""
    with contextlib.suppress(OSError):  # some sandboxes forbid it
        os.nice(LOWEST)
    with contextlib.suppress(OSError):  # another system, or a kernel without it
        if os.getsid(0) == os.getpid():  # else it would be lowered for whoever started this one
            SESSION.write_text(str(LOWEST), encoding="ascii")
