"""Processes that a trial starts end with it, also those that have left their parent (a daemon, by a double fork).

On Linux this process becomes the one that orphans among its descendants are given to, so that it knows them all. On
other systems processes are left to themselves.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

ENDING_SECONDS = 0.2
"""How long a process gets to end by itself before it is killed."""

KILLING_SECONDS = 5.0
"""How long killed processes, and what their deaths uncover, are waited for."""

SHARED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "torch/_inductor", "-m expflow.")
"""Parts of the command lines of processes that libraries, and expflow itself, start for all trials of a process, though
perhaps while one runs."""

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_TASKS = Path("/proc/self/task")


def hold_children() -> Callable[[], None]:
    """Remember which child processes there are; the result, when called, ends those that have come since.

    Those that a thread has started which runs already, and is not this one, are none of the trial's business.
    """
    if not _TASKS.is_dir():
        return lambda: None
    give_back = _adopt_orphans()
    others = _threads() - {threading.get_native_id()}
    before = _children(others)

    def end() -> None:
        if left := _children(others) - before:
            gc.collect()  # a loader that nobody holds any more ends its workers
            _end(left, lambda: _children(others) - before)
        give_back()

    return end


def _threads() -> set[int]:
    return {int(task.name) for task in _TASKS.iterdir()}


def _children(without: set[int]) -> set[int]:
    """Processes that this process's threads, but for some, have started or adopted; zombies are reaped."""
    children = set()
    for thread in _threads() - without:
        with suppress(OSError):  # the thread has just ended
            children |= {int(pid) for pid in (_TASKS / str(thread) / "children").read_text().split()}
    return {pid for pid in children if not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def _end(left: set[int], look: Callable[[], set[int]]) -> None:
    """Kill processes, and those that their deaths uncover, until there is none."""
    patience = time.monotonic() + ENDING_SECONDS
    while left and time.monotonic() < patience:
        time.sleep(0.01)
        left = look()
    names, give_up = {}, time.monotonic() + KILLING_SECONDS
    with _child_signal_ignored():
        while time.monotonic() < give_up and (left := {pid for pid in look() if not _is_shared(pid)}):
            for pid in left:
                names[pid] = _command(pid).split(" ")[0]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
    if names:
        listed = ", ".join(f"{name or '?'} ({pid})" for pid, name in sorted(names.items()))
        logger.warning("processes that the trial left running were ended: %s", listed)


def _is_shared(pid: int) -> bool:
    command = _command(pid)
    return any(part in command for part in SHARED)


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@contextmanager
def _child_signal_ignored() -> Iterator[None]:
    """Without the handler by which torch raises an error when a loader's worker is killed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _adopt_orphans() -> Callable[[], None]:
    """Have orphans among the descendants given to this process; the result, when called, puts it back as it was."""
    prctl = ctypes.CDLL(None).prctl
    state = ctypes.c_int()
    prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(state), 0, 0, 0)
    if state.value:
        return lambda: None
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return lambda: prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
