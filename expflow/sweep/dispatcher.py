"""The dispatcher: leases gangs to trials, relays their messages, tries lost attempts again.

It is one asyncio actor beside the driver. It owns the gangs, so an idle gang outlives the end of a trial and Tune never
sees how an attempt fails: retries happen here, on another gang, under the same trial id. What happens comes out as
messages, of all trials in one numbered order; whoever reads them, the driver or Tune's trainable, only carries them.

A trial starts on a gang as soon as it is assigned and a gang is free.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from expflow.sweep.assignment import Assignment, GangShape
from expflow.sweep.draining_nodes import DrainingNodes
from expflow.sweep.failures import is_of_the_node, may_retry
from expflow.sweep.gang import NO_EXECUTABLES, Gang, RunningAttempt, joined, kill_gang, make_gang, parted
from expflow.sweep.gang_pool import GangPool
from expflow.sweep.liveness import AttemptLimits, Liveness
from expflow.sweep.messages import (
    AttemptFailedMessage,
    AttemptStartedMessage,
    FinalMessage,
    ReportMessage,
    TrialEndedMessage,
    WireMessage,
    from_wire,
    to_wire,
)
from expflow.sweep.outbox import Outbox
from expflow.sweep.rank_children import end_marked

LEAVE_SECONDS = 8.0
"""What running trials get, from when they are told to leave, to end a step and write a checkpoint. With what Ray takes
to end, a driver that was told to stop has left within 15 s, before a batch system loses its patience."""

AGAIN_SECONDS = 5.0
"""How long to wait before a gang that could not be made is tried again."""

REST_SECONDS = 60.0
"""How long a gang gets no trial whose node's own disk is full, or which the store does not let in. It keeps its place,
so that no other gang is made there meanwhile."""

ENDING_SECONDS = (0.5, 5.0)
"""When, after a gang was killed, its ranks' children are ended, and again: a stopped rank takes its time to die."""


@dataclass
class _AssignedTrial:
    """What the dispatcher knows of one assigned trial, and the answer its rank waits for.

    Attributes:
        assignment: The trial, and the number of its present attempt.
        answers: The driver's decisions that the rank has not received.
        undecided: Attempt and step of the report whose answer is waited for.
        stopped: Whether the driver has decided that the trial does not go on.
        liveness: The heartbeats of the running attempt; None between two attempts.
    """

    assignment: Assignment
    answers: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    undecided: tuple[int, int] | None = None
    stopped: bool = False
    liveness: Liveness | None = None


class Dispatcher:
    """Leases gangs of one shape to trials. A Ray actor.

    Args:
        shape: What each gang is made of.
        gangs: How many gangs there are.
        lockstep: Whether every rank waits for the driver's decision about each report, as a scheduler that stops trials
            needs; without it, ranks run ahead.
        limits: How long an attempt may take.
        executables: Node's id -> what ranks there are executed by in place of Python.
    """

    def __init__(
        self,
        shape: GangShape,
        gangs: int,
        lockstep: bool,
        limits: AttemptLimits | None = None,
        executables: Mapping[str, str] = NO_EXECUTABLES,
    ) -> None:
        self._shape, self._lockstep, self._limits = shape, lockstep, limits or AttemptLimits()
        self._executables = dict(executables)
        self._trials: dict[str, _AssignedTrial] = {}
        self._outbox = Outbox()
        self._free = GangPool()
        self._gangs: dict[str, Gang] = {}
        self._busy: dict[str, Liveness] = {}
        """Gang -> the heartbeats of the attempt that it runs."""
        self._count = 0
        self._wanted = gangs
        self._released, self._give_up = False, 0.0
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._making: set[asyncio.Task[Gang]] = set()
        self._ending: list[Gang] = []
        """Gangs that are gone, whose ranks' children are still being ended."""

    async def start(self) -> None:
        """Begin to warm the gangs; returns at once."""
        await self.grow(self._wanted)
        self._watch = asyncio.ensure_future(
            DrainingNodes(ray.get_runtime_context().gcs_address).watch(self._leave_nodes)
        )

    def _leave_nodes(self, nodes: frozenset[str]) -> None:
        """Have trials on nodes that are to go save and leave, and free gangs there make room for others elsewhere."""
        there = [gang for gang in self._gangs.values() if any(place.node in nodes for place in gang.places)]
        for gang in there:
            if (liveness := self._busy.get(gang.name)) is not None:
                liveness.request = liveness.request or "leave"
            elif self._free.withdraw(gang):
                self._retire(gang)

    async def grow(self, gangs: int) -> None:
        """Begin to warm more gangs.

        Args:
            gangs: How many more.
        """
        for _ in range(gangs):
            self._spawn(self._add_gang())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop keeps only weak references to tasks
        task.add_done_callback(self._tasks.discard)

    async def _add_gang(self) -> None:
        while not self._released:
            self._count += 1
            making = asyncio.ensure_future(make_gang(f"gang-{self._count}", self._shape, self._executables))
            self._making.add(making)
            making.add_done_callback(self._making.discard)
            try:
                gang = await making
            except asyncio.CancelledError:
                return
            except ray.exceptions.RayError:  # a rank died before all had met; its node may be going away
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self._gangs[gang.name] = gang
            self._free.put(gang)
            self._spawn(self._locate(gang))
            return

    async def _locate(self, gang: Gang) -> None:
        """Learn where a gang's ranks are, so that a lost one can be named, and a lost node be told from a process."""
        try:
            gang.places = list(await asyncio.gather(*(rank.place.remote() for rank in gang.ranks)))
        except ray.exceptions.RayError:
            gang.places = []  # its next attempt will fail with what is wrong

    async def _end_children_of(self, gang: Gang) -> None:
        self._ending.append(gang)
        await _end_children(gang)
        self._ending.remove(gang)

    def _retire(self, gang: Gang) -> None:
        """Give back all that a gang holds, and start another in its place."""
        self._gangs.pop(gang.name, None)
        kill_gang(gang)
        self._spawn(self._end_children_of(gang))
        if not self._released:
            self._spawn(self._add_gang())

    async def assign(self, assignments: Mapping[str, Assignment]) -> None:
        """Queue trials, which run on the next free gangs in this order.

        All that is assigned at one moment comes in one call: Ray runs the calls of an asyncio actor in any order.

        Args:
            assignments: What a trial is called from now on -> the trial; one that is assigned again has another name.
        """
        for key, assignment in assignments.items():
            self._trials[key] = _AssignedTrial(assignment)
            self._spawn(self._serve(key))

    async def forget(self, key: str) -> None:
        """Drop a trial, of which the driver has all messages.

        Args:
            key: The key that it was assigned under.
        """
        self._trials.pop(key, None)

    async def next(self, reader: str) -> tuple[int, list[WireMessage]]:
        """The messages since the reader's last call, at least one, and the number of the first of them.

        There are none when the sweep is being released, or another reader has taken over.

        Args:
            reader: Name of whoever carries them to the driver.
        """
        first, messages = await self._outbox.next(reader)
        return first, to_wire(messages)

    async def report(self, key: str, wire: list[WireMessage]) -> bool:
        """Take in a rank's reports; returns whether it shall go on.

        Args:
            key: The key that the rank knows the trial by.
            wire: Reports of one attempt, in lockstep one of them.
        """
        trial, messages = self._trials.get(key), from_wire(wire)
        last = messages[-1]
        if trial is None or trial.stopped or self._released or last.attempt != trial.assignment.attempt:
            return False
        if trial.liveness is not None:
            trial.liveness.reported(time.monotonic())
        if self._lockstep and isinstance(last, ReportMessage):
            trial.undecided = last.attempt, last.step
        for message in messages:
            self._outbox.add(message)
        if not self._lockstep:
            return True
        if trial.liveness is not None:
            trial.liveness.waiting = True
        answer = await trial.answers.get()
        if trial.liveness is not None:
            trial.liveness.waiting = False
        return answer

    async def note(self, key: str, wire: list[WireMessage]) -> None:
        """Take in what a rank wants no answer to: where an attempt begins, or what it wrote.

        Args:
            key: The key that the rank knows the trial by.
            wire: The messages.
        """
        trial = self._trials.get(key)
        for message in from_wire(wire):
            if trial is not None and message.attempt == trial.assignment.attempt:
                self._outbox.add(message)

    async def beat(self, key: str, rank: int, steps: int) -> str:
        """Take in a heartbeat; returns what is wanted of the rank: ``leave``, ``stacks`` or nothing.

        Args:
            key: The key that the rank knows the trial by.
            rank: The rank's number in its gang.
            steps: Steps that it has counted.
        """
        trial = self._trials.get(key)
        if trial is None or trial.liveness is None:
            return ""
        trial.liveness.beat(rank, steps, time.monotonic())
        return trial.liveness.request or ("leave" if self._released else "")

    async def decide(self, key: str, attempt: int, step: int, go_on: bool) -> None:
        """Pass on the driver's decision about a report. A second one about the same report has no effect.

        Args:
            key: The key that it was assigned under.
            attempt: The report's attempt.
            step: The report's step.
            go_on: Whether the trial goes on.
        """
        trial = self._trials.get(key)
        if trial is not None and trial.undecided == (attempt, step):
            trial.undecided = None
            trial.stopped = trial.stopped or not go_on
            trial.answers.put_nowait(go_on)

    async def release(self) -> None:
        """Let the reader go when it has what there is: the sweep is over, or being stopped. Ranks save and leave."""
        self._released, self._give_up = True, time.monotonic() + LEAVE_SECONDS
        self._outbox.close()
        for trial in self._trials.values():
            trial.answers.put_nowait(False)

    async def close(self) -> None:
        """Kill all gangs, after those that were released had their time to leave."""
        while self._running and time.monotonic() < self._give_up:
            await asyncio.sleep(0.05)
        self._released = True
        for making in list(self._making):
            making.cancel()
        gangs, lost = list(self._gangs.values()), list(self._ending)
        cut_off = gangs if self._running else []
        for gang in gangs:
            self._retire(gang)
        await asyncio.gather(*(_end_children(gang, ENDING_SECONDS[:1]) for gang in (*lost, *cut_off)))

    async def _serve(self, key: str) -> None:
        """Run a trial on one gang after another until an attempt ends in something that trying again cannot mend."""
        trial = self._trials[key]
        failures: Counter[str] = Counter()
        while not self._released:
            gangs = await self._free.take(trial.assignment.gangs)
            # An answer that was meant for a lost attempt must not reach this one.
            trial.undecided, trial.answers = None, asyncio.Queue()
            assignment = trial.assignment
            try:
                gang = gangs[0] if len(gangs) == 1 else await joined(gangs)
            except ray.exceptions.RayError:  # one of them is gone; the others may wait for it
                for lost in gangs:
                    self._retire(lost)
                continue
            self._outbox.add(AttemptStartedMessage(assignment.trial, assignment.attempt, gang.name))
            final = await self._attempt(key, trial, gang, gangs)
            self._outbox.add(final)
            if not isinstance(final, AttemptFailedMessage):
                return
            failures[final.failure] += 1
            if not may_retry(final.failure, failures[final.failure], elsewhere=self._moves(assignment)):
                self._outbox.add(TrialEndedMessage.from_failure(final))
                return
            trial.assignment = assignment.next_attempt()

    async def _attempt(self, key: str, trial: _AssignedTrial, gang: Gang, gangs: Sequence[Gang]) -> FinalMessage:
        """One attempt on ``gang``, of which ``gangs`` are given back, or retired where not fit for another one."""
        trial.liveness = Liveness.begin(len(gang.ranks), time.monotonic())
        attempt = RunningAttempt(gang, trial.assignment, self._limits, trial.liveness)
        self._running += 1
        self._busy |= {one.name: trial.liveness for one in gangs}
        try:
            final, fit = await attempt.outcome(ray.get_runtime_context().current_actor, key)
        finally:
            self._running -= 1
            for one in gangs:
                self._busy.pop(one.name, None)
            trial.liveness = None
        if fit and len(gangs) > 1:
            try:
                await parted(gangs)
            except ray.exceptions.RayError:
                fit = False
        rests = self._moves(trial.assignment) and is_of_the_node(getattr(final, "failure", ""))
        for one in gangs:
            if not fit:
                self._retire(one)
            elif rests:
                self._spawn(self._rest(one))
            else:
                self._free.put(one)
        return final

    def _moves(self, assignment: Assignment) -> bool:
        """Whether another node can go on with a trial, on a disk of its own."""
        nodes = {place.node for gang in self._gangs.values() for place in gang.places}
        return assignment.stored is not None and len(nodes) > 1

    async def _rest(self, gang: Gang) -> None:
        await asyncio.sleep(REST_SECONDS)
        if gang.name in self._gangs:
            self._free.put(gang)


async def _end_children(gang: Gang, waits: Sequence[float] = ENDING_SECONDS) -> None:
    """End what killed ranks on this node have started; until they are dead, they may start more."""
    here = ray.get_runtime_context().get_node_id()
    marks = [place.mark for place in gang.places if place.node == here]
    for wait in waits if marks else ():
        await asyncio.sleep(wait)
        await asyncio.to_thread(end_marked, marks)
