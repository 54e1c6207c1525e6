"""Several ranks on this machine, for ``expflow train``: one process for each, without Ray.

Each process exchanges messages with its parent over a pipe. All end when the parent does, however it ends, and when one
of them fails the others are not left waiting for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from expflow.config.resources import Resources
from expflow.data.stores.signed_urls import signed_addresses
from expflow.errors import Preempted, RankLost, UserError
from expflow.training.allocator import TUNABLES
from expflow.training.child_processes import hold_children
from expflow.training.contract import Attempt, Leave, OnNotice, OnReport, Outcome, World, trials_per_gpu

LOOPBACK = "127.0.0.1"

_GRACE_SECONDS = 5.0
"""How long the other ranks may take to end by themselves after one of them failed."""

_POLL_SECONDS = 0.2
"""How often the parent looks whether the ranks have to leave."""


def local_world(resources: Resources) -> World:
    """Rank 0's world on this machine, with a GPU for each rank where there are enough of them.

    Args:
        resources: What the experiment asks for.

    Raises:
        UserError: It asks for more GPUs than there are.
    """
    gpus = resources.gpus_per_rank
    if gpus == "measured":
        gpus = 1.0  # this trial has no other beside it
    if gpus == 0:
        return World(ranks=resources.ranks, threads=resources.cpus_per_rank)
    available = _gpus_here()
    if gpus == "auto":
        gpus = 1 if available >= resources.ranks else 0
    if resources.ranks * gpus > available:
        raise UserError(
            f"resources asks for {resources.ranks} x {gpus:g} GPUs, this machine has {available}; lower ranks, or set "
            "gpus_per_rank: 0 to train on the CPU"
        )
    share = gpus if 0 < gpus < 1 else 1.0
    return World(
        ranks=resources.ranks,
        threads=resources.cpus_per_rank,
        gpus=int(gpus > 0),
        trials_per_gpu=trials_per_gpu(gpus),
        gpu_memory=share,
    )


def _gpus_here() -> int:
    """How many GPUs torch can use. Where the system has no such device, torch is not imported to find out."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return 0
    import torch

    return torch.cuda.device_count()


@dataclass(frozen=True)
class RankAssignment:
    """What a rank's process is started for.

    Attributes:
        attempt: The trial, and what this attempt at it goes on from.
        world: The rank's place among the trial's ranks.
        paths: Folders that go before the process's import path.
        addresses: Signed addresses of the data, which stand in no file.
    """

    attempt: Attempt
    world: World
    paths: tuple[str, ...]
    addresses: tuple[str, ...] = field(default=(), repr=False)


class RankProcess(Protocol):
    """The process of a rank, as :class:`subprocess.Popen` is one."""

    def wait(self) -> int:
        """Its exit code once it has ended; less than 0 is the number of the signal that killed it."""

    def terminate(self) -> None:
        """Tell it to leave."""

    def kill(self) -> None:
        """End it at once."""


StartRank = Callable[[int, Mapping[str, str]], RankProcess]
"""Starts a rank's process with a pipe's file descriptor and an environment."""


def execute_rank(descriptor: int, environment: Mapping[str, str]) -> RankProcess:
    """A rank in a Python of its own, which imports all that it needs.

    Args:
        descriptor: The rank's end of the pipe to this process.
        environment: Its environment.
    """
    return subprocess.Popen(  # noqa: S603  our own module, by this interpreter
        [sys.executable, "-m", "expflow.training.rank_process", str(descriptor)],
        pass_fds=(descriptor,),
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@dataclass
class _Process:
    """One rank as its parent sees it."""

    rank: int
    process: RankProcess
    pipe: Connection
    ended: bool = False


def run_local_ranks(
    attempt: Attempt,
    world: World,
    on_report: OnReport,
    *,
    on_notice: OnNotice,
    leave: Leave,
    start_rank: StartRank = execute_rank,
) -> Outcome:
    """As :func:`~expflow.training.contract.run_trial`, with ``world.ranks`` processes that this one starts.

    Args:
        attempt: The trial, and what this attempt at it goes on from.
        world: Rank 0's; ``world.gpus`` is how many GPUs each rank has.
        on_report: Called with each report; the trial ends where it returns False.
        on_notice: Called when the attempt begins, and after each checkpoint and artifact.
        leave: Asked again and again whether the trial has to leave.
        start_rank: What each rank's process is started by. Tests fork theirs from one that has imported everything.

    Raises:
        RankLost: A process died.
        Exception: What the first rank to fail raised, with its traceback as a note.
    """
    with _started(attempt, world, start_rank) as ranks:
        return _MessageLoop(ranks, on_report, on_notice, leave).outcome()


@contextmanager
def _started(attempt: Attempt, world: World, start_rank: StartRank) -> Iterator[list[_Process]]:
    """The ranks' processes, each with its assignment; none of them runs on when the body is left."""
    ranks: list[_Process] = []
    end_others = hold_children()  # a rank that is killed cannot end what it has started
    try:
        for rank in range(world.ranks):
            ranks.append(_start(rank, world, start_rank))
        for process in ranks:
            own_world = replace(world, rank=process.rank)
            process.pipe.send(RankAssignment(attempt, own_world, tuple(sys.path), signed_addresses()))
        port = _receive(ranks[0])
        for process in ranks[1:]:
            process.pipe.send(port)
        yield ranks
    finally:
        for process in ranks:
            _end(process)
        end_others()


def _start(rank: int, world: World, start_rank: StartRank) -> _Process:
    ours, theirs = Pipe()
    environment = {**dict([TUNABLES]), **os.environ, "OMP_NUM_THREADS": str(world.threads)}
    if world.gpus:
        first = rank * world.gpus
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in _visible()[first : first + world.gpus])
    process = start_rank(theirs.fileno(), environment)
    theirs.close()
    return _Process(rank, process, ours)


def _visible() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]


def _receive(rank: _Process) -> Any:
    """The next message of a rank. Raises :class:`RankLost` where its process has ended."""
    try:
        return rank.pipe.recv()
    except (EOFError, OSError) as error:
        code = rank.process.wait()
        raise RankLost(f"rank {rank.rank} was lost: {_ending(code)}") from error


def _ending(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it left with exit code {code}"


def _end(rank: _Process) -> None:
    """End the process, by force where it does not end by itself."""
    rank.pipe.close()  # by which it learns that its parent is gone
    if not rank.ended:
        rank.process.kill()
    rank.process.wait()


def _precedence(error: BaseException) -> int:
    return 0 if isinstance(error, RankLost) else 1 if isinstance(error, Preempted) else 2


class _MessageLoop:
    """Receives the ranks' messages until all have ended."""

    def __init__(self, ranks: list[_Process], on_report: OnReport, on_notice: OnNotice, leave: Leave) -> None:
        self._ranks, self._leave = ranks, leave
        self._handlers: Mapping[str, Callable[[Any], Any]] = {"report": on_report, "notice": on_notice}
        self._leaving = False
        self._outcomes: dict[int, Outcome] = {}
        self._failed: BaseException | None = None
        self._failed_at = 0.0

    def outcome(self) -> Outcome:
        """Rank 0's outcome, when all ranks have one. Raises what a rank raised."""
        while len(self._outcomes) < len(self._ranks) and not self._given_up():
            self._pass_on_leave()
            for rank in self._with_messages():
                try:
                    self._handle(rank, *_receive(rank))
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

    def _with_messages(self) -> list[_Process]:
        running = {rank.pipe: rank for rank in self._ranks if not rank.ended}
        return [running[pipe] for pipe in wait(list(running), _POLL_SECONDS) if isinstance(pipe, Connection)]

    def _handle(self, rank: _Process, kind: str, content: Any) -> None:
        if kind == "ended":
            self._outcomes[rank.rank], rank.ended = content, True
            rank.process.wait()
        elif kind == "failed":
            rank.ended = True
            self._fail(content)
        else:
            rank.pipe.send(self._handlers[kind](content))

    def _fail(self, error: BaseException) -> None:
        """Keep the reason: a rank that is lost, else one that was told to leave, else the first error. Those that
        follow mostly say that another rank is gone."""
        if self._failed is None:
            self._failed, self._failed_at = error, time.monotonic()
        elif _precedence(error) < _precedence(self._failed):
            self._failed = error

    def _pass_on_leave(self) -> None:
        if not self._leaving and self._leave():
            self._leaving = True
            for rank in self._ranks:
                if not rank.ended:
                    rank.process.terminate()
