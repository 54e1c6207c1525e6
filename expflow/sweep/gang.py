"""Gangs: warm ranks that run trials one after another, taken whole or not at all.

A gang holds a placement group of its own. Where it has several ranks they join one process group when it is made, and
keep it. A gang that lost a rank, or whose ranks may be out of step, is retired; the sweep makes another.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from expflow.errors import Preempted
from expflow.sweep.assignment import Assignment, GangShape, RankPlace, rank_file
from expflow.sweep.liveness import AttemptLimits, Liveness
from expflow.sweep.messages import AttemptFailedMessage, FinalMessage, TrialEndedMessage
from expflow.sweep.rank import Rank, failure_message
from expflow.sweep.rank_end import end_in_words, log_size
from expflow.sweep.ray_supervision import listens

GRACE_SECONDS = 5.0
"""What the other ranks get to end by themselves after one of them failed."""

STACKS_SECONDS = 3.0
"""What ranks get to write their stacks down before a hung gang is killed."""

WATCH_SECONDS = 0.5
"""How often a running attempt is checked."""

MAX_DEVICE_BYTES_LEFT = 64 * 2**20
"""Device memory that a trial may leave behind; with more, the process is not fit for another trial."""

NODE_SECONDS = 2.0
"""How long a node is waited for that is asked for a connection."""

NO_EXECUTABLES: Mapping[str, str] = MappingProxyType({})
"""Every rank is executed by its node's Python."""


@dataclass
class Gang:
    """One gang on Ray.

    Attributes:
        name: Its name, as the ledger has it.
        group: The placement group that holds its resources.
        ranks: Ray's handles of its processes.
        places: Where they run, once that is known.
    """

    name: str
    group: Any
    ranks: list[Any]
    places: list[RankPlace] = field(default_factory=list)


async def make_gang(name: str, shape: GangShape, executables: Mapping[str, str] = NO_EXECUTABLES) -> Gang:
    """Wait for the resources of a whole gang, start its ranks, and have them meet.

    A gang of one rank is ready before it has imported anything: Ray queues its first trial behind the warm-up.

    Args:
        name: The gang's name.
        shape: What it is made of.
        executables: Node's id -> what ranks there are executed by in place of Python.
    """
    bundle = {"CPU": float(shape.cpus_per_rank)}
    if shape.gpus_per_rank:
        bundle["GPU"] = float(shape.gpus_per_rank)
    gang = Gang(name, placement_group([bundle] * shape.ranks, strategy="PACK"), [])
    try:
        await _start(gang, shape, executables)
    except BaseException:  # also where the task that waits for it is cancelled
        kill_gang(gang)
        raise
    return gang


async def _start(gang: Gang, shape: GangShape, executables: Mapping[str, str]) -> None:
    await gang.group.ready()
    nodes = placement_group_table(gang.group)["bundles_to_node_id"]
    gang.ranks += [
        ray.remote(Rank)
        .options(
            num_cpus=shape.cpus_per_rank,
            num_gpus=shape.gpus_per_rank,
            scheduling_strategy=PlacementGroupSchedulingStrategy(gang.group, placement_group_bundle_index=index),
            **_executed_by(executables.get(nodes[index], "")),
        )
        .remote(index, shape)
        for index in range(shape.ranks)
    ]
    for rank in gang.ranks:
        rank.warm_up.remote()
    if shape.ranks > 1:
        meeting = await gang.ranks[0].host.remote()
        await asyncio.gather(*(rank.join.remote(meeting) for rank in gang.ranks))


async def joined(gangs: Sequence[Gang]) -> Gang:
    """One gang of the ranks of several, which have met as one process group.

    Args:
        gangs: Gangs of one rank, whose placement groups stay theirs.
    """
    ranks = [rank for gang in gangs for rank in gang.ranks]
    await asyncio.gather(*(rank.become.remote(number, len(ranks)) for number, rank in enumerate(ranks)))
    meeting = await ranks[0].host.remote()
    await asyncio.gather(*(rank.join.remote(meeting) for rank in ranks))
    places = [place for gang in gangs for place in gang.places]
    return Gang("+".join(gang.name for gang in gangs), None, ranks, places)


async def parted(gangs: Sequence[Gang]) -> None:
    """Have the ranks of a joined gang be gangs of their own again.

    Args:
        gangs: The gangs that were joined.
    """
    await asyncio.gather(*(rank.become.remote(0, 1) for gang in gangs for rank in gang.ranks))


def _executed_by(executable: str) -> dict[str, Any]:
    return {"runtime_env": {"py_executable": executable}} if executable else {}


def kill_gang(gang: Gang) -> None:
    """Give back all that a gang holds. Also a stopped process (SIGSTOP) goes, in about five seconds.

    Args:
        gang: The gang.
    """
    for rank in gang.ranks:
        ray.kill(rank, no_restart=True)
    remove_placement_group(gang.group)


RankResult = FinalMessage | ray.exceptions.RayError
"""How a rank's part of an attempt ended: a message, or the error of a process that is gone."""


@dataclass
class RunningAttempt:
    """An attempt that a gang runs.

    Attributes:
        gang: The gang.
        assignment: What it runs.
        limits: How long it may take.
        liveness: What its ranks' heartbeats show, which the dispatcher takes in.
        started: When it began, by ``time.perf_counter``.
    """

    gang: Gang
    assignment: Assignment
    limits: AttemptLimits
    liveness: Liveness
    started: float = field(default_factory=time.perf_counter)
    _log_sizes: list[int] = field(default_factory=list)

    async def outcome(self, dispatcher: Any, lease: str) -> tuple[FinalMessage, bool]:
        """The message that the attempt ends with, and whether its gang is fit for another one.

        Args:
            dispatcher: Ray's handle of the dispatcher, for the ranks.
            lease: The key that the dispatcher knows the trial by.
        """
        self._log_sizes = [log_size(self._log(rank)) for rank in range(len(self.gang.ranks))]
        runs = [asyncio.ensure_future(_run(rank, self.assignment, dispatcher, lease)) for rank in self.gang.ranks]
        fault = await self._watch(runs)
        for run in runs:
            run.cancel()
        results = {rank: run.result() for rank, run in enumerate(runs) if run.done() and not run.cancelled()}
        if fault is not None:
            return self._failed(*fault), False
        if any(isinstance(result, ray.exceptions.RayError) for result in results.values()):
            return self._combine(results, await asyncio.to_thread(_answering_nodes))
        return self._combine(results)

    async def _watch(self, runs: Sequence[asyncio.Future[RankResult]]) -> tuple[str, str] | None:
        """Return when all ranks have ended, or one has failed and the others had their time; or with what is wrong."""
        failed_at: float | None = None
        while not all(run.done() for run in runs):
            await asyncio.wait(runs, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            now = time.monotonic()
            if failed_at is None and any(
                run.done() and not isinstance(run.result(), TrialEndedMessage) for run in runs
            ):
                failed_at = now
            if failed_at is not None and now - failed_at > GRACE_SECONDS:
                return None
            if failed_at is None and (fault := self.liveness.fault(self.limits, now)):
                self.liveness.request = "stacks"
                await asyncio.sleep(STACKS_SECONDS)
                return fault
            if any(run.done() for run in runs):  # the others end soon, too; do not spin meanwhile
                await asyncio.sleep(0.01)
        return None

    def _combine(
        self, results: Mapping[int, RankResult], nodes: frozenset[str] = frozenset()
    ) -> tuple[FinalMessage, bool]:
        """The attempt's message by its ranks' results, and whether the gang is fit for another attempt.

        A rank that is gone, or was told to leave, is the reason why others have failed. ``nodes`` answer.
        """
        if gone := {rank: result for rank, result in results.items() if isinstance(result, ray.exceptions.RayError)}:
            failure = "node_lost" if any(place.node not in nodes for place in self.gang.places) else "worker_lost"
            if any(getattr(error, "preempted", False) for error in gone.values()):
                failure = Preempted.failure  # as Ray was told before
            words = "; ".join(self._how_it_ended(rank, error, nodes) for rank, error in gone.items())
            return self._failed(failure, words), False
        messages = [result for result in results.values() if not isinstance(result, ray.exceptions.RayError)]
        clean = all(message.device_bytes_left <= MAX_DEVICE_BYTES_LEFT for message in messages)
        failures = [message for message in messages if isinstance(message, AttemptFailedMessage)]
        if leaving := [message for message in failures if message.failure == Preempted.failure]:
            return leaving[0], False  # the process is to go
        if failures:  # ranks that failed may be out of step with each other
            return failures[0], clean and len(self.gang.ranks) == 1
        return messages[0], clean

    def _how_it_ended(self, rank: int, error: ray.exceptions.RayError, nodes: frozenset[str]) -> str:
        places = self.gang.places
        place = f" (process {places[rank].pid} on {places[rank].host})" if places else ""
        if places and places[rank].node not in nodes:
            how = "was on a node that is gone"
        elif "low on memory" in str(error):
            how = "was killed by Ray, because its node ran low on memory"
        elif places and self.assignment.stored is not None and places[rank].host != socket.gethostname():
            how = "is gone, and so is what its log would say"  # it lies on that node
        else:
            how = end_in_words(self._log(rank), self._log_sizes[rank])
        return f"rank {rank}{place} {how}"

    def _log(self, rank: int) -> Path:
        return rank_file(Path(self.assignment.folder), "log", rank)

    def _failed(self, failure: str, message: str) -> AttemptFailedMessage:
        where = f"; stacks of its ranks: {self.assignment.folder}/stacks*.txt" if failure == "hung" else ""
        return failure_message(self.assignment, failure, message + where, self.started)


def _answering_nodes() -> frozenset[str]:
    """Nodes that Ray calls alive and that take connections: Ray waits for a minute before it calls one dead."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return frozenset(
        node["NodeID"] for node in alive if listens((node["NodeManagerAddress"], node["NodeManagerPort"]), NODE_SECONDS)
    )


async def _run(rank: Any, assignment: Assignment, dispatcher: Any, lease: str) -> RankResult:
    try:
        message: FinalMessage = await rank.run.remote(assignment, dispatcher, lease)
    except ray.exceptions.RayError as error:
        return error
    return message
