"""The process of one rank of :mod:`expflow.training.local_ranks`: its part of one trial, with messages over a pipe."""

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

from expflow.data.stores.signed_urls import keep_queries
from expflow.errors import ExpflowError, TrialError
from expflow.events import Report
from expflow.training.contract import LEAVE_SIGNALS, Notice, Outcome, run_trial
from expflow.training.local_ranks import LOOPBACK, RankAssignment


def main(descriptor: int) -> None:
    """Train what the parent sends over a pipe, and send back the outcome or the error.

    Args:
        descriptor: Number of the pipe's file descriptor, which this process has inherited.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    leave = Event()
    for number in LEAVE_SIGNALS:
        signal.signal(number, lambda number, frame: leave.set())
    pipe = Connection(descriptor)
    assignment: RankAssignment = pipe.recv()
    first = [path for path in assignment.paths if path]
    sys.path[:] = first + [path for path in sys.path if path not in assignment.paths]
    keep_queries(assignment.addresses)
    try:
        pipe.send(("ended", _train(assignment, pipe, leave)))
    except _ParentGone:
        os._exit(1)
    except BaseException as error:  # noqa: BLE001  whatever the user's code raises is for the parent to classify
        with contextlib.suppress(OSError):  # where the parent is gone, this is what it looks like to the other ranks
            pipe.send(("failed", _portable(error)))
        os._exit(1)  # at once: a process group that lost a rank may wait for it in its destructor


class _ParentGone(BaseException):
    """The parent has ended. Not an Exception, so that no code of the user's goes on after it."""


def _train(assignment: RankAssignment, pipe: Connection, leave: Event) -> Outcome:
    from expflow.training import ranks

    world = assignment.world
    if world.rank == 0:
        port = ranks.host_rendezvous(LOOPBACK, world.ranks)
        pipe.send(port)
    else:
        port = pipe.recv()
    ranks.join_group(world.rank, world.ranks, LOOPBACK, port, LOOPBACK)

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

    outcome = run_trial(assignment.attempt, world, on_report, on_notice=on_notice, leave=leave.is_set)
    ranks.leave_group()
    return outcome


def _portable(error: BaseException) -> BaseException:
    """``error`` as the parent can raise it: itself where it can be pickled, else its text, with its traceback."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, ExpflowError):
        try:
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes, made in this line
        except Exception:  # noqa: BLE001  pickle raises anything; then the text is sent
            copy = None
        if isinstance(copy, ExpflowError):
            copy.add_note(trace)
            return copy
    described = TrialError(f"{type(error).__name__}: {error}")
    described.add_note(trace)
    return described


if __name__ == "__main__":
    main(int(sys.argv[1]))
