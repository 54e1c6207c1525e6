"""Ranks that are forks of one process which has imported everything. A program, and what starts and asks it.

A test of two ranks executes two Pythons otherwise, whose imports take ten times as long as their training. The forks
run what a rank's process runs; ``tests/training/test_ranks.py`` executes some as ``expflow train`` does.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NoReturn

from expflow.training.allocator import TUNABLES
from expflow.training.local_ranks import run_local_ranks
from expflow.training.rank_process import main as train_rank
from expflow.training.template.server import STAGES

ALSO = ("torchvision", "torchvision.models.detection", "scipy.optimize", "sklearn.datasets", "matplotlib.figure")
"""What ranks of several tests import besides."""
LONGEST = 2**18
"""Bytes of an environment."""
_control: list[socket.socket] = []
"""The connection to the process that forks ranks, where there is one."""


class ForkedRank:
    """A rank's process, which is no child of this one.

    Args:
        answers: What its process id, and once it has ended its exit code, is read from.
    """

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._code: int | None = None
        self.pid = int(answers.readline())

    def wait(self) -> int:
        """Its exit code, as :class:`subprocess.Popen` gives it."""
        if self._code is None:
            self._code = int(self._answers.readline())
            self._answers.close()
        return self._code

    def terminate(self) -> None:
        """Tell it to leave."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._code is None and not wait([self._answers], 0):  # else its number may be another's
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@contextmanager
def rank_forks_started() -> Iterator[None]:
    """In the body, :func:`run_forked_ranks` forks its ranks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        env=os.environ | dict([TUNABLES]),
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    _control.append(ours)
    try:
        yield
    finally:
        _control.remove(ours)
        ours.close()  # by which it ends
        server.wait()


def fork_rank(descriptor: int, environment: Mapping[str, str]) -> ForkedRank:
    """A rank that is forked from the process which has imported everything."""
    reading, writing = os.pipe()
    try:
        socket.send_fds(_control[0], [json.dumps([dict(environment), str(Path.cwd())]).encode()], [descriptor, writing])
    finally:
        os.close(writing)
    return ForkedRank(os.fdopen(reading))


run_forked_ranks: Callable[..., Any] = functools.partial(run_local_ranks, start_rank=fork_rank)
"""As :func:`run_local_ranks`, with forks. The test needs the fixture ``rank_forks``."""


def end_with(work: Callable[[], object]) -> NoReturn:
    """Do some work as the last that this fork does: it ends with 0, or with 1 where it raises."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  this process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become_rank(descriptor: int, environment: Mapping[str, str], folder: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_with(lambda: train_rank(descriptor))


def _keep(environment: Mapping[str, str], folder: str, descriptor: int, writing: int) -> None:
    """In a process of its own: fork the rank, and say its number and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    rank = os.fork()
    if rank == 0:
        os.close(writing)
        _become_rank(descriptor, environment, folder)
    os.close(descriptor)  # the rank's alone: that it is closed says that the rank is gone
    os.write(writing, f"{rank}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(writing, f"{code}\n".encode())


def main(control: socket.socket) -> None:
    """Import, then fork until the other end is closed."""
    for module in (*sum(STAGES, ()), *ALSO):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        content, descriptors, _, _ = socket.recv_fds(control, LONGEST, 2)
        if not content:
            return
        if os.fork() == 0:
            control.close()
            _keep(*json.loads(content), *descriptors)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
