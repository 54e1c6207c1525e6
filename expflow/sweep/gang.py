"""Gangs: warm ranks that run trials one after another, taken whole or not at all.

A gang holds a placement group of its own. Where it has several ranks they join one process group when it is made, and
keep it. A gang that lost a rank, or whose ranks may be out of step, is retired; the sweep makes another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from expflow.sweep.rank import LEFT_BYTES, SILENT_SECONDS, Assignment, Message, Rank, Shape, failure

GRACE_SECONDS = 5.0
"""What the other ranks get to end by themselves after one of them failed."""

STACKS_SECONDS = 3.0
"""What ranks get to write their stacks down before a hung gang is killed."""

WARM_UP_SECONDS = 600.0
"""What a new rank gets to import what it needs, from a slow disk perhaps, before its first trial begins."""

WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """How long an attempt may take before its gang is killed. ``stall`` is the time without a step, ``limit`` (None:
    any) that of the whole attempt, ``silent`` that without a sign of life; all in seconds."""

    stall: float = 1800.0
    limit: float | None = None
    silent: float = SILENT_SECONDS


@dataclass
class Gang:
    """The ranks of one gang, the placement group that holds their resources, and the nodes that they run on."""

    name: str
    group: Any
    ranks: list[Any]
    nodes: list[str] = field(default_factory=list)


async def make_gang(name: str, shape: Shape) -> Gang:
    """Wait for the resources of a whole gang, start its ranks, and have them meet.

    A gang of one rank is ready before it has imported anything: Ray queues its first trial behind the warm-up.
    """
    bundle = {"CPU": float(shape.cpus_per_rank)}
    if shape.gpus_per_rank:
        bundle["GPU"] = float(shape.gpus_per_rank)
    gang = Gang(name, placement_group([bundle] * shape.ranks, strategy="PACK"), [])
    try:
        await _start(gang, shape)
    except BaseException:  # also where nobody waits for it any more
        kill_gang(gang)
        raise
    return gang


async def _start(gang: Gang, shape: Shape) -> None:
    await gang.group.ready()
    gang.ranks += [
        ray.remote(Rank)
        .options(
            num_cpus=shape.cpus_per_rank,
            num_gpus=shape.gpus_per_rank,
            scheduling_strategy=PlacementGroupSchedulingStrategy(gang.group, placement_group_bundle_index=index),
        )
        .remote(index, shape)
        for index in range(shape.ranks)
    ]
    for rank in gang.ranks:
        rank.warm_up.remote()
    if shape.ranks > 1:
        meeting = await gang.ranks[0].host.remote()
        await asyncio.gather(*(rank.join.remote(meeting) for rank in gang.ranks))


def kill_gang(gang: Gang) -> None:
    """Give back all that a gang holds. Also a stopped process (SIGSTOP) goes, in about five seconds."""
    for rank in gang.ranks:
        ray.kill(rank, no_restart=True)
    remove_placement_group(gang.group)


@dataclass
class Life:
    """What the ranks of a running attempt have last shown of themselves, by a monotonic clock.

    ``heard`` is None for a rank that still warms up. ``waiting`` says that rank 0 waits for an answer, which is
    nobody's stall.
    """

    begun: float
    heard: list[float | None]
    steps: list[int]
    stepped: float
    wish: str = ""
    waiting: bool = False

    @classmethod
    def begin(cls, ranks: int, now: float) -> Life:
        """The life of an attempt that begins now."""
        return cls(now, [None] * ranks, [0] * ranks, now)

    def beat(self, rank: int, steps: int, now: float) -> None:
        """A sign of life of ``rank``, which has taken ``steps`` steps."""
        self.heard[rank] = now
        if steps != self.steps[rank]:
            self.steps[rank], self.stepped = steps, now

    def fault(self, patience: Patience, now: float) -> tuple[str, str] | None:
        """What is wrong, as failure class and words; None as long as nothing is."""
        for rank, heard in enumerate(self.heard):
            silence = now - (self.begun if heard is None else heard)
            if silence > (WARM_UP_SECONDS if heard is None else patience.silent):
                return "hung", f"rank {rank} gave no sign of life for {silence:.0f} s"
        if not self.waiting and now - self.stepped > patience.stall:
            return "hung", f"no step for {now - self.stepped:.0f} s (resources.stall_seconds)"
        if patience.limit is not None and now - self.begun > patience.limit:
            return "killed_by_limit", f"it ran for more than {patience.limit:g} s (resources.trial_seconds)"
        return None


@dataclass
class Attempt:
    """One attempt of a gang: how it goes, and how it ends."""

    gang: Gang
    assignment: Assignment
    patience: Patience
    life: Life
    started: float = field(default_factory=time.perf_counter)

    async def outcome(self, dispatcher: Any, lease: str) -> tuple[Message, bool]:
        """The message that the attempt ends with, and whether its gang is fit for another one."""
        running = [asyncio.ensure_future(_answer(rank, self.assignment, dispatcher, lease)) for rank in self.gang.ranks]
        fault = await self._watch(running)
        for each in running:
            each.cancel()
        results = [each.result() for each in running if each.done() and not each.cancelled()]
        if fault is not None:
            return self._failed(*fault), False
        return self._verdict(results)

    async def _watch(self, running: Sequence[asyncio.Future[Any]]) -> tuple[str, str] | None:
        """Return when all ranks have ended, or one has failed and the others had their time; or with what is wrong."""
        failed_at: float | None = None
        while not all(each.done() for each in running):
            await asyncio.wait(running, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            now = time.monotonic()
            if failed_at is None and any(each.done() and _failed(each.result()) for each in running):
                failed_at = now
            if failed_at is not None and now - failed_at > GRACE_SECONDS:
                return None
            if failed_at is None and (fault := self.life.fault(self.patience, now)):
                self.life.wish = "stacks"
                await asyncio.sleep(STACKS_SECONDS)
                return fault
            if any(each.done() for each in running):  # the others are at its heels; do not spin meanwhile
                await asyncio.sleep(0.01)
        return None

    def _verdict(self, results: Sequence[Any]) -> tuple[Message, bool]:
        lost = [each for each in results if isinstance(each, BaseException)]
        if lost:
            kind = "node_lost" if self._node_is_gone() else "worker_lost"
            text = str(lost[0]).strip()
            return self._failed(kind, text.splitlines()[0] if text else type(lost[0]).__name__), False
        failed = [each for each in results if each["kind"] == "attempt_failed"]
        clean = all(each.get("left", 0) <= LEFT_BYTES for each in results)
        if failed:  # ranks that failed may be out of step with each other
            return failed[0], clean and len(self.gang.ranks) == 1
        return results[0], clean

    def _node_is_gone(self) -> bool:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return any(node not in alive for node in self.gang.nodes)

    def _failed(self, kind: str, message: str) -> Message:
        where = f"; stacks of its ranks: {self.assignment.folder}/stacks*.txt" if kind == "hung" else ""
        return failure(self.assignment, kind, message + where, "", self.started)


async def _answer(rank: Any, assignment: Assignment, dispatcher: Any, lease: str) -> Any:
    """What a rank's attempt ends with: a message, or the error that says that the process is gone."""
    try:
        return await rank.run.remote(assignment, dispatcher, lease)
    except ray.exceptions.RayError as error:
        return error


def _failed(result: Any) -> bool:
    return isinstance(result, BaseException) or result["kind"] == "attempt_failed"
