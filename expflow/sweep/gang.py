"""Gangs: warm ranks that run trials one after another, and the dispatcher that leases them out.

The dispatcher is one asyncio actor beside the driver. It owns the gangs, so an idle gang outlives the end of a trial
and Tune never sees how an attempt fails: retries happen here, on another gang, under the same trial id. What happens
comes out as messages, in order, one queue per trial; Tune's trainables only carry them to the driver.

A trial starts on a gang as soon as it is assigned and a gang is free, whether or not Tune has yet started the
trainable that will relay it: this hides Tune's own latency behind the training of the trial before.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from expflow.config.schema import Recipe

Message = dict[str, Any]

MAX_TRIES = 3
"""Tries of one trial whose worker is lost. A trial that raises by itself is not tried again: it would raise again."""


@dataclass(frozen=True)
class Shape:
    """What one gang is made of. ``paths`` are added to the ranks' import path, relative ones as seen from the ranks'
    working folder; ``warm`` modules are imported early."""

    ranks: int = 1
    cpus_per_rank: int = 1
    gpus_per_rank: float = 0
    paths: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """One trial for a gang. ``attempt`` is the number of the next attempt."""

    trial: str
    attempt: int
    recipe: Recipe
    seed: int
    folder: str
    data_root: str | None = None


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send this process's output to the trial's log, file descriptors included, so that C libraries are caught too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, target):
            os.close(descriptor)


class Rank:
    """One process of a gang. Its methods run on the process's main thread, so trials may install signal handlers."""

    def __init__(self, rank: int, shape: Shape) -> None:
        import sys

        self._rank, self._shape = rank, shape
        for path in reversed(shape.paths):
            full = str(Path(path).absolute())  # a relative one is seen from the folder that this node unpacked
            if full not in sys.path:
                sys.path.insert(0, full)

    def warm_up(self) -> None:
        """Import what trials need."""
        import importlib

        for module in self._shape.warm:
            importlib.import_module(module)

    def run(self, assignment: Assignment, dispatcher: Any, lease: str) -> Message:
        """Run one attempt to its end. Never raises: a failure is a message, so the rank stays warm."""
        started = time.perf_counter()
        folder = Path(assignment.folder)
        try:
            with _output_to(folder / "log.txt"):
                return self._attempt(assignment, dispatcher, lease, started)
        except OSError as error:  # the log itself cannot be written
            return _failure(assignment, "storage", f"{folder}: {error}", "", started)

    def _attempt(self, assignment: Assignment, dispatcher: Any, lease: str, started: float) -> Message:
        from expflow.errors import Diverged, ExpflowError
        from expflow.events import Report
        from expflow.training import Attempt, World, run_trial

        last_step = 0

        def on_report(report: Report) -> bool:
            nonlocal last_step
            last_step = report.step
            message = {
                "kind": "report",
                "trial": assignment.trial,
                "attempt": assignment.attempt,
                "step": report.step,
                "metrics": {key: float(value) for key, value in report.metrics.items()},
                "progress": report.progress,
                "seconds": time.perf_counter() - started,
            }
            return bool(ray.get(dispatcher.report.remote(lease, message)))

        world = World(self._rank, self._shape.ranks, self._shape.cpus_per_rank, int(self._shape.gpus_per_rank > 0))
        data_root = Path(assignment.data_root) if assignment.data_root else None
        attempt = Attempt(assignment.recipe, assignment.seed, data_root, Path(assignment.folder))
        try:
            outcome = run_trial(attempt, world, on_report)
        except Diverged as error:
            return _failure(assignment, "diverged", str(error), "", started)
        except ray.exceptions.RayError as error:  # the dispatcher is gone, and with it the driver
            return _failure(assignment, "worker_lost", str(error), "", started)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the user's code raises is this trial's failure, not ours
            traceback.print_exc()
            text = str(error) if isinstance(error, ExpflowError) else f"{type(error).__name__}: {error}"
            return _failure(assignment, "code", text, traceback.format_exc(), started)
        return {
            "kind": "ended",
            "trial": assignment.trial,
            "attempt": assignment.attempt,
            "status": "stopped" if outcome.stopped else "done",
            "step": outcome.step,
            "seconds": time.perf_counter() - started,
            "weights": outcome.weights,
        }


def _failure(assignment: Assignment, failure: str, message: str, trace: str, started: float) -> Message:
    return {
        "kind": "attempt_failed",
        "trial": assignment.trial,
        "attempt": assignment.attempt,
        "failure": failure,
        "message": message,
        "traceback": trace,
        "seconds": time.perf_counter() - started,
    }


@dataclass
class Gang:
    """The ranks of one gang and the placement group that holds their resources."""

    name: str
    group: Any
    ranks: list[Any]


@dataclass
class _Trial:
    """What the dispatcher knows of one assigned trial: its messages, and the answer its rank waits for."""

    assignment: Assignment
    messages: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    verdict: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    stopped: bool = False


class Dispatcher:
    """Leases gangs to trials, relays their reports, tries lost attempts again.

    ``lockstep`` makes every rank wait for the driver's decision about each report, as a scheduler that stops trials
    needs; without one, ranks run ahead.
    """

    def __init__(self, shape: Shape, gangs: int, lockstep: bool) -> None:
        self._shape, self._lockstep = shape, lockstep
        self._trials: dict[str, _Trial] = {}
        self._assigned = asyncio.Condition()
        self._free: asyncio.Queue[Gang] = asyncio.Queue()
        self._gangs: dict[str, Gang] = {}
        self._count = 0
        self._wanted = gangs
        self._released = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to warm the gangs; returns at once."""
        for _ in range(self._wanted):
            self._spawn(self._add_gang())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop keeps only weak references to tasks
        task.add_done_callback(self._tasks.discard)

    async def _add_gang(self) -> None:
        self._count += 1
        name = f"gang-{self._count}"
        shape = self._shape
        bundle = {"CPU": float(shape.cpus_per_rank)}
        if shape.gpus_per_rank:
            bundle["GPU"] = float(shape.gpus_per_rank)
        group = placement_group([bundle] * shape.ranks, strategy="PACK")
        await group.ready()
        ranks: list[Any] = [
            ray.remote(Rank)
            .options(
                num_cpus=shape.cpus_per_rank,
                num_gpus=shape.gpus_per_rank,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            )
            .remote(index, shape)
            for index in range(shape.ranks)
        ]
        gang = Gang(name, group, ranks)
        self._gangs[name] = gang
        # A rank takes its first trial while it still imports: Ray queues the call behind the warm-up.
        for rank in ranks:
            rank.warm_up.remote()
        self._free.put_nowait(gang)

    def _retire(self, gang: Gang) -> None:
        """Give back all that a gang holds, and start another in its place."""
        self._gangs.pop(gang.name, None)
        for rank in gang.ranks:
            ray.kill(rank, no_restart=True)
        remove_placement_group(gang.group)
        if not self._released:
            self._spawn(self._add_gang())

    async def assign(self, key: str, assignment: Assignment) -> None:
        """Queue a trial under Tune's ``key``; it runs on the next free gang."""
        trial = _Trial(assignment)
        if self._released:  # Ray does not keep the order of calls to an asyncio actor
            trial.messages.put_nowait({"kind": "released"})
        async with self._assigned:
            self._trials[key] = trial
            self._assigned.notify_all()
        self._spawn(self._serve(key))

    async def next(self, key: str) -> list[Message]:
        """The trial's messages since the last call, at least one; empty when the sweep is being released."""
        async with self._assigned:
            await self._assigned.wait_for(lambda: key in self._trials or self._released)
        trial = self._trials.get(key)
        if trial is None:
            return []
        messages = [await trial.messages.get()]
        while not trial.messages.empty():
            messages.append(trial.messages.get_nowait())
        if any(message["kind"] == "released" for message in messages):
            messages = [message for message in messages if message["kind"] != "released"]
            if not messages or messages[-1]["kind"] != "ended":
                return []
        if messages[-1]["kind"] == "ended":
            self._trials.pop(key, None)
        return messages

    async def report(self, key: str, message: Message) -> bool:
        """A rank's report; answers whether it shall go on."""
        trial = self._trials.get(key)
        if trial is None or trial.stopped or self._released or message["attempt"] != trial.assignment.attempt:
            return False
        trial.messages.put_nowait(message)
        return await trial.verdict.get() if self._lockstep else True

    async def decide(self, key: str, go_on: bool) -> None:
        """The driver's decision about the trial's last report."""
        trial = self._trials.get(key)
        if trial is not None:
            trial.stopped = trial.stopped or not go_on
            trial.verdict.put_nowait(go_on)

    async def release(self) -> None:
        """Let every waiting trainable go with what there is: the sweep is being stopped."""
        self._released = True
        async with self._assigned:
            self._assigned.notify_all()
        for trial in self._trials.values():
            trial.messages.put_nowait({"kind": "released"})
            trial.verdict.put_nowait(False)

    async def close(self) -> None:
        """Kill all gangs."""
        self._released = True
        for gang in list(self._gangs.values()):
            self._retire(gang)

    async def _serve(self, key: str) -> None:
        """Run a trial on one gang after another until an attempt ends in something other than a lost worker."""
        trial = self._trials[key]
        tries = 0
        while not self._released:
            gang = await self._free.get()
            tries += 1
            trial.verdict = asyncio.Queue()  # an answer that was meant for a lost attempt must not reach this one
            trial.messages.put_nowait(
                {
                    "kind": "started",
                    "trial": trial.assignment.trial,
                    "attempt": trial.assignment.attempt,
                    "gang": gang.name,
                }
            )
            result = await self._attempt(key, trial, gang)
            trial.messages.put_nowait(result)
            if result["kind"] == "ended":
                return
            if result["failure"] != "worker_lost" or tries >= MAX_TRIES:
                trial.messages.put_nowait(
                    {
                        "kind": "ended",
                        "trial": result["trial"],
                        "attempt": result["attempt"],
                        "status": "failed",
                        "step": 0,
                        "seconds": result["seconds"],
                        "weights": "",
                    }
                )
                return
            trial.assignment = replace(trial.assignment, attempt=trial.assignment.attempt + 1)

    async def _attempt(self, key: str, trial: _Trial, gang: Gang) -> Message:
        """One attempt on ``gang``, which is given back, or retired where one of its ranks was lost."""
        started = time.perf_counter()
        me = ray.get_runtime_context().current_actor
        try:
            results = await asyncio.gather(*(rank.run.remote(trial.assignment, me, key) for rank in gang.ranks))
        except ray.exceptions.RayError as error:
            self._retire(gang)
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            return _failure(trial.assignment, "worker_lost", text, "", started)
        self._free.put_nowait(gang)
        failed = [result for result in results if result["kind"] == "attempt_failed"]
        return failed[0] if failed else results[0]
