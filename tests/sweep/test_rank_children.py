"""What a killed rank has started does not outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from expflow.sweep.rank_children import end_marked

Pids = TypeVar("Pids", list[int], set[int])

RANK = """
import os, signal, subprocess, sys
from expflow.sweep.rank_children import leave_mark
mark = leave_mark()
child = os.fork()
if child == 0:  # a daemon: its own session, and no parent
    os.setsid()
    if os.fork() == 0:
        os.execlp("sleep", "sleep", "3600")
    os._exit(0)
os.waitpid(child, 0)
other = subprocess.Popen(["sleep", "3601"])
print(mark, flush=True)
signal.pause()
"""


def sleeping(seconds: str) -> list[int]:
    wanted = f"sleep\0{seconds}\0".encode()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _command(path) == wanted]


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux tells the environment of a process")
def test_daemons_and_children_of_a_killed_rank_end_and_those_of_others_do_not() -> None:
    command = [sys.executable, "-c", RANK]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        try:
            mark, other = killed.stdout.readline().strip(), living.stdout.readline().strip()
            there = until(lambda: set(sleeping("3600") + sleeping("3601")), lambda pids: len(pids) == 4)
            os.kill(killed.pid, signal.SIGKILL)
            ended = set(end_marked([mark]))
            assert len(ended) == 2
            assert ended < there
            assert until(lambda: end_marked([mark, "never"]), lambda pids: not pids) == []
            assert until(lambda: set(sleeping("3600") + sleeping("3601")), lambda pids: len(pids) == 2) == there - ended
        finally:
            living.kill()
            end_marked([other])


def until(look: Callable[[], Pids], enough: Callable[[Pids], bool], seconds: float = 60) -> Pids:
    """What is seen once it is enough: a daemon executes its program after its fork, and dies after its kill."""
    give_up = time.monotonic() + seconds
    while not enough(seen := look()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return seen
