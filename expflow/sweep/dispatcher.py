"""The dispatcher: leases gangs to trials, relays what they say, tries lost attempts again.

It is one asyncio actor beside the driver. It owns the gangs, so an idle gang outlives the end of a trial and Tune never
sees how an attempt fails: retries happen here, on another gang, under the same trial id. What happens comes out as
messages, in order, one queue per trial; Tune's trainables only carry them to the driver.

A trial starts on a gang as soon as it is assigned and a gang is free, whether or not Tune has yet started the
trainable that will relay it: this hides Tune's own latency behind the training of the trial before.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from expflow.sweep.failures import may_retry
from expflow.sweep.gang import Attempt, Gang, Life, Patience, kill_gang, make_gang
from expflow.sweep.rank import Assignment, Message, Shape

LEAVE_SECONDS = 20.0
"""What running trials get, when the sweep is stopped, to write a checkpoint."""

AGAIN_SECONDS = 5.0
"""How long to wait before a gang that could not be made is tried again."""


@dataclass
class _Trial:
    """What the dispatcher knows of one assigned trial: its messages, and the answer its rank waits for.

    ``reader`` is the key of the trainable that fetches the messages. The first ``sent`` of them have been handed to it;
    they are kept until it comes again, since it may be lost on the way to the driver.
    """

    assignment: Assignment
    reader: str
    messages: list[Message] = field(default_factory=list)
    sent: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    asked: tuple[int, int] | None = None
    """Attempt and step of the report whose answer is waited for."""
    stopped: bool = False
    life: Life | None = None

    def say(self, message: Message) -> None:
        """One more message for the driver."""
        self.messages.append(message)
        self.arrived.set()


class Dispatcher:
    """Leases ``gangs`` gangs of one ``shape``.

    ``lockstep`` makes every rank wait for the driver's decision about each report, as a scheduler that stops trials
    needs; without one, ranks run ahead.
    """

    def __init__(self, shape: Shape, gangs: int, lockstep: bool, patience: Patience | None = None) -> None:
        self._shape, self._lockstep, self._patience = shape, lockstep, patience or Patience()
        self._trials: dict[str, _Trial] = {}
        self._assigned = asyncio.Condition()
        self._free: asyncio.Queue[Gang] = asyncio.Queue()
        self._gangs: dict[str, Gang] = {}
        self._count = 0
        self._wanted = gangs
        self._released = False
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._making: set[asyncio.Task[Gang]] = set()

    async def start(self) -> None:
        """Begin to warm the gangs; returns at once."""
        for _ in range(self._wanted):
            self._spawn(self._add_gang())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop keeps only weak references to tasks
        task.add_done_callback(self._tasks.discard)

    async def _add_gang(self) -> None:
        while not self._released:
            self._count += 1
            making = asyncio.ensure_future(make_gang(f"gang-{self._count}", self._shape))
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
            self._free.put_nowait(gang)
            self._spawn(self._locate(gang))
            return

    async def _locate(self, gang: Gang) -> None:
        """Learn which nodes a gang is on, so that a lost node can be told from a lost process."""
        try:
            gang.nodes = list(await asyncio.gather(*(rank.node.remote() for rank in gang.ranks)))
        except ray.exceptions.RayError:
            gang.nodes = []  # its next attempt will say what is wrong

    def _retire(self, gang: Gang) -> None:
        """Give back all that a gang holds, and start another in its place."""
        self._gangs.pop(gang.name, None)
        kill_gang(gang)
        if not self._released:
            self._spawn(self._add_gang())

    async def assign(self, key: str, assignment: Assignment) -> None:
        """Queue a trial under Tune's ``key``; it runs on the next free gang."""
        async with self._assigned:
            self._trials[key] = _Trial(assignment, key)
            self._assigned.notify_all()
        self._spawn(self._serve(key))

    async def hand_over(self, old: str, key: str) -> None:
        """The trainable of ``old`` was lost: that of ``key`` relays its trial from now on, which has gone on meanwhile.

        What the lost one had fetched last is told again; the driver knows what it has heard.
        """
        async with self._assigned:
            await self._assigned.wait_for(lambda: old in self._trials or self._released)
            trial = self._trials.get(old)
            if trial is not None:
                self._trials[key] = trial  # its ranks still go by the old key
                trial.reader, trial.sent = key, 0
                trial.arrived.set()
            self._assigned.notify_all()

    async def forget(self, key: str) -> None:
        """The driver has all of a trial's messages."""
        trial = self._trials.get(key)
        for each in [name for name, its in self._trials.items() if its is trial]:
            del self._trials[each]

    async def next(self, key: str) -> list[Message]:
        """The trial's messages since the last call, at least one; empty when the sweep is being released."""
        async with self._assigned:
            await self._assigned.wait_for(lambda: key in self._trials or self._released)
        trial = self._trials.get(key)
        if trial is None:
            return []
        if trial.reader == key:
            del trial.messages[: trial.sent]
            trial.sent = 0
        while trial.reader == key and not trial.messages and not self._released:
            trial.arrived.clear()
            await trial.arrived.wait()
        if trial.reader != key:  # who asks was taken for lost
            return []
        trial.sent = len(trial.messages)
        return list(trial.messages)

    async def report(self, key: str, messages: list[Message]) -> bool:
        """A rank's reports, of one attempt, one of them in lockstep; answers whether it shall go on."""
        trial = self._trials.get(key)
        attempt, step = messages[-1]["attempt"], messages[-1]["step"]
        if trial is None or trial.stopped or self._released or attempt != trial.assignment.attempt:
            return False
        if self._lockstep:
            trial.asked = attempt, step
        for message in messages:
            trial.say(message)
        if not self._lockstep:
            return True
        if trial.life is not None:
            trial.life.waiting = True
        answer = await trial.verdict.get()
        if trial.life is not None:
            trial.life.waiting = False
        return answer

    async def note(self, key: str, message: Message) -> None:
        """Where an attempt begins, or a checkpoint: nothing is answered."""
        trial = self._trials.get(key)
        if trial is not None and message["attempt"] == trial.assignment.attempt:
            trial.say(message)

    async def beat(self, key: str, rank: int, steps: int) -> str:
        """A rank's sign of life; answers what is wanted of it: ``leave``, ``stacks`` or nothing."""
        trial = self._trials.get(key)
        if trial is None or trial.life is None:
            return ""
        trial.life.beat(rank, steps, time.monotonic())
        return trial.life.wish or ("leave" if self._released else "")

    async def decide(self, key: str, attempt: int, step: int, go_on: bool) -> None:
        """The driver's decision about a trial's report; a second one about the same report is not listened to."""
        trial = self._trials.get(key)
        if trial is not None and trial.asked == (attempt, step):
            trial.asked = None
            trial.stopped = trial.stopped or not go_on
            trial.verdict.put_nowait(go_on)

    async def release(self) -> None:
        """Let every waiting trainable go with what there is: the sweep is being stopped. Ranks save and leave."""
        self._released = True
        async with self._assigned:
            self._assigned.notify_all()
        for trial in self._trials.values():
            trial.arrived.set()
            trial.verdict.put_nowait(False)

    async def close(self) -> None:
        """Kill all gangs, after those that were released had their time to leave."""
        give_up = time.monotonic() + (LEAVE_SECONDS if self._released else 0.0)
        while self._running and time.monotonic() < give_up:
            await asyncio.sleep(0.05)
        self._released = True
        for each in list(self._making):
            each.cancel()
        for gang in list(self._gangs.values()):
            self._retire(gang)

    async def _serve(self, key: str) -> None:
        """Run a trial on one gang after another until an attempt ends in something that trying again cannot mend."""
        trial = self._trials[key]
        failures: Counter[str] = Counter()
        while not self._released:
            gang = await self._free.get()
            # An answer that was meant for a lost attempt must not reach this one.
            trial.asked, trial.verdict = None, asyncio.Queue()
            assignment = trial.assignment
            trial.say({"kind": "started", "trial": assignment.trial, "attempt": assignment.attempt, "gang": gang.name})
            result = await self._attempt(key, trial, gang)
            trial.say(result)
            if result["kind"] == "ended":
                return
            failures[result["failure"]] += 1
            if not may_retry(result["failure"], failures[result["failure"]]):
                trial.say(_gave_up(result))
                return
            trial.assignment = replace(assignment, attempt=assignment.attempt + 1)

    async def _attempt(self, key: str, trial: _Trial, gang: Gang) -> Message:
        """One attempt on ``gang``, which is given back, or retired where it is not fit for another one."""
        trial.life = Life.begin(len(gang.ranks), time.monotonic())
        attempt = Attempt(gang, trial.assignment, self._patience, trial.life)
        self._running += 1
        try:
            result, fit = await attempt.outcome(ray.get_runtime_context().current_actor, key)
        finally:
            self._running -= 1
            trial.life = None
        if fit:
            self._free.put_nowait(gang)
        else:
            self._retire(gang)
        return result


def _gave_up(result: Message) -> Message:
    """The end of a trial whose last attempt failed with ``result``."""
    return {
        "kind": "ended",
        "trial": result["trial"],
        "attempt": result["attempt"],
        "status": "failed",
        "step": 0,
        "seconds": result["seconds"],
        "weights": "",
        "reason": "",
    }
