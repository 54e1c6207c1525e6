"""Several ranks on this machine, for ``expflow train``: one process for each, without Ray.

The processes speak with their parent over a pipe each. They end when it does, however it ends, and when one of them
fails the others are not left waiting for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from expflow.config.schema import Resources
from expflow.errors import RankLost, UserError
from expflow.training.allocator import TUNABLES
from expflow.training.contract import Attempt, Leave, OnNotice, OnReport, Outcome, World, sharing

LOOPBACK = "127.0.0.1"

_GRACE_SECONDS = 5.0
"""What the other ranks get to end by themselves after one of them failed."""

_POLL_SECONDS = 0.2
"""How soon a request to leave reaches the ranks."""


def world_here(resources: Resources) -> World:
    """Rank 0's world on this machine, with a GPU for each rank where there are enough of them.

    Raises :class:`UserError` where ``resources`` asks for more GPUs than there are.
    """
    gpus = resources.gpus_per_rank
    if gpus == "measured":
        gpus = 1.0  # this trial has no other beside it
    if gpus == 0:
        return World(ranks=resources.ranks, threads=resources.cpus_per_rank)
    there = _gpus_here()
    if gpus == "auto":
        gpus = 1 if there >= resources.ranks else 0
    if resources.ranks * gpus > there:
        raise UserError(
            f"resources asks for {resources.ranks} x {gpus:g} GPUs, this machine has {there}; lower ranks, or set "
            "gpus_per_rank: 0 to train on the CPU"
        )
    share = gpus if 0 < gpus < 1 else 1.0
    return World(
        ranks=resources.ranks,
        threads=resources.cpus_per_rank,
        gpus=int(gpus > 0),
        sharing=sharing(gpus),
        gpu_memory=share,
    )


def _gpus_here() -> int:
    """GPUs that torch can use. Where the system has no such device, torch is not imported to say so."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return 0
    import torch

    return torch.cuda.device_count()


@dataclass(frozen=True)
class Task:
    """What a rank's process is started for; ``paths`` go before its import path."""

    attempt: Attempt
    world: World
    paths: tuple[str, ...]


@dataclass
class _Process:
    """One rank as its parent sees it."""

    rank: int
    process: subprocess.Popen[bytes]
    pipe: Connection
    ended: bool = False


def run_on_this_machine(
    attempt: Attempt, world: World, on_report: OnReport, *, on_notice: OnNotice, leave: Leave
) -> Outcome:
    """As :func:`~expflow.training.contract.run_trial`, with ``world.ranks`` processes that this one starts.

    ``world.gpus`` is how many GPUs each rank has. Raises what the first rank to fail raised, with its traceback as a
    note, and :class:`RankLost` where a process died.
    """
    with _started(attempt, world) as ranks:
        return _Listener(ranks, on_report, on_notice, leave).outcome()


@contextmanager
def _started(attempt: Attempt, world: World) -> Iterator[list[_Process]]:
    """The ranks' processes, told what to do; none of them is left on leaving."""
    ranks: list[_Process] = []
    try:
        for rank in range(world.ranks):
            ranks.append(_start(rank, world))
        for each in ranks:
            each.pipe.send(Task(attempt, replace(world, rank=each.rank), tuple(sys.path)))
        port = _received(ranks[0])
        for each in ranks[1:]:
            each.pipe.send(port)
        yield ranks
    finally:
        for each in ranks:
            _end(each)


def _start(rank: int, world: World) -> _Process:
    ours, theirs = Pipe()
    environment = {**dict([TUNABLES]), **os.environ, "OMP_NUM_THREADS": str(world.threads)}
    if world.gpus:
        first = rank * world.gpus
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in _visible()[first : first + world.gpus])
    process = subprocess.Popen(  # noqa: S603  our own module, by this interpreter
        [sys.executable, "-m", "expflow.training.rank_process", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    return _Process(rank, process, ours)


def _visible() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]


def _received(rank: _Process) -> Any:
    """The next message of ``rank``. Raises :class:`RankLost` where there will be none."""
    try:
        return rank.pipe.recv()
    except (EOFError, OSError) as error:
        code = rank.process.wait()
        raise RankLost(f"rank {rank.rank} was lost: {_how(code)}") from error


def _how(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it left with exit code {code}"


def _end(rank: _Process) -> None:
    """Have the process gone, by force if need be."""
    rank.pipe.close()  # which is how it learns that nobody listens any more
    if not rank.ended:
        rank.process.kill()
    rank.process.wait()


class _Listener:
    """Hears the ranks out until all have ended."""

    def __init__(self, ranks: list[_Process], on_report: OnReport, on_notice: OnNotice, leave: Leave) -> None:
        self._ranks, self._leave = ranks, leave
        self._heard: Mapping[str, Callable[[Any], Any]] = {"report": on_report, "notice": on_notice}
        self._told_to_leave = False
        self._outcomes: dict[int, Outcome] = {}
        self._failed: BaseException | None = None
        self._failed_at = 0.0

    def outcome(self) -> Outcome:
        """Rank 0's outcome, when all ranks have one. Raises what a rank raised."""
        while len(self._outcomes) < len(self._ranks) and not self._given_up():
            self._pass_on_leave()
            for rank in self._ready():
                try:
                    self._hear(rank, *_received(rank))
                except RankLost as error:
                    rank.ended = True
                    self._fail(error)
        if self._failed is not None:
            raise self._failed
        return self._outcomes[0]

    def _given_up(self) -> bool:
        """Whether a rank failed and the others have had their time to end, or have ended."""
        if self._failed is None:
            return False
        late = time.monotonic() - self._failed_at > _GRACE_SECONDS
        return late or all(rank.ended for rank in self._ranks)

    def _ready(self) -> list[_Process]:
        running = {rank.pipe: rank for rank in self._ranks if not rank.ended}
        return [running[pipe] for pipe in wait(list(running), _POLL_SECONDS) if isinstance(pipe, Connection)]

    def _hear(self, rank: _Process, kind: str, content: Any) -> None:
        if kind == "ended":
            self._outcomes[rank.rank], rank.ended = content, True
            rank.process.wait()
        elif kind == "failed":
            rank.ended = True
            self._fail(content)
        else:
            rank.pipe.send(self._heard[kind](content))

    def _fail(self, error: BaseException) -> None:
        """Keep the first error: those that follow mostly say that another rank is gone."""
        if self._failed is None:
            self._failed, self._failed_at = error, time.monotonic()

    def _pass_on_leave(self) -> None:
        if not self._told_to_leave and self._leave():
            self._told_to_leave = True
            for rank in self._ranks:
                if not rank.ended:
                    rank.process.terminate()
