"""What one rank of :mod:`expflow.training.local` runs: its part of one trial, spoken about over a pipe."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from threading import Event
from typing import Any

from expflow.errors import ExpflowError, TrialError
from expflow.events import Report
from expflow.training.contract import Notice, Outcome, run_trial
from expflow.training.local import LOOPBACK, Task


def main(descriptor: int) -> None:
    """Train what the parent sends over the pipe ``descriptor``, and send it what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    leave = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: leave.set())
    pipe = Connection(descriptor)
    task: Task = pipe.recv()
    sys.path[:] = [path for path in task.paths if path] + [path for path in sys.path if path not in task.paths]
    try:
        pipe.send(("ended", _train(task, pipe, leave)))
    except _ParentGone:
        os._exit(1)
    except BaseException as error:  # noqa: BLE001  whatever the user's code raises is the parent's to judge
        with contextlib.suppress(OSError):  # where the parent is gone, this is what it looks like to the other ranks
            pipe.send(("failed", _portable(error)))
        os._exit(1)  # at once: a process group that lost a rank may wait for it in its destructor


class _ParentGone(BaseException):
    """Nobody listens: not an Exception, so that no code of the user's goes on after it."""


def _train(task: Task, pipe: Connection, leave: Event) -> Outcome:
    from expflow.training import ranks

    world = task.world
    if world.rank == 0:
        port = ranks.host(LOOPBACK, world.ranks)
        pipe.send(port)
    else:
        port = pipe.recv()
    ranks.join(world.rank, world.ranks, LOOPBACK, port)

    def ask(kind: str, content: Any) -> Any:
        try:
            pipe.send((kind, content))
            return pipe.recv()
        except (EOFError, OSError) as error:
            raise _ParentGone from error

    def on_report(report: Report) -> bool:
        return bool(ask("report", report))

    def on_notice(notice: Notice) -> None:
        ask("notice", notice)

    outcome = run_trial(task.attempt, world, on_report, on_notice=on_notice, leave=leave.is_set)
    ranks.part()
    return outcome


def _portable(error: BaseException) -> BaseException:
    """``error`` as the parent can raise it: as it is where it travels, in words otherwise, with its traceback."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, ExpflowError):
        try:
            travelled = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes, made in this line
        except Exception:  # noqa: BLE001  whatever does not travel is told in words
            travelled = None
        if isinstance(travelled, ExpflowError):
            travelled.add_note(trace)
            return travelled
    told = TrialError(f"{type(error).__name__}: {error}")
    told.add_note(trace)
    return told


if __name__ == "__main__":
    main(int(sys.argv[1]))
