"""Gangs of several ranks on a real Ray: together or not at all, and never lost for long."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from expflow.config.schema import Recipe, Trainer
from expflow.sweep.assignment import Assignment, GangShape
from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.liveness import AttemptLimits
from expflow.sweep.messages import (
    AttemptBeganMessage,
    AttemptFailedMessage,
    AttemptStartedMessage,
    Message,
    ReportMessage,
    TrialEndedMessage,
    from_wire,
    to_wire,
)
from expflow.sweep.ray_cluster import connected
from expflow.tasks.specs import Action, ScriptedSpec
from expflow.training.template.process import RankTemplate
from tests.sweep.gang_messages import report

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def executables() -> Iterator[dict[str, str]]:
    """A Ray of this machine; what its node executes ranks by: forks of a template, as in a sweep."""
    from expflow.config.resources import Resources

    with RankTemplate() as template, connected(Resources(ranks=2), None, "gangs", paths=(), warm=()):
        assert template.start()
        yield {ray.get_runtime_context().get_node_id(): template.executable}


def recipe(*actions: dict[str, Any]) -> Recipe:
    script = tuple(Action.model_validate(action) for action in actions)
    return Recipe(task=ScriptedSpec(name="scripted", script=script), trainer=Trainer(epochs=1))


REPORT = {"report": {"val/top1": 0.5}}


class OneGang:
    """A dispatcher of one gang of two ranks, and the messages of its trials."""

    def __init__(self, folder: Path, limits: AttemptLimits, executables: dict[str, str]) -> None:
        self.folder = folder
        self.actor = (
            ray.remote(Dispatcher)
            .options(num_cpus=0, max_concurrency=100)
            .remote(  # type: ignore[attr-defined]
                GangShape(ranks=2), 1, False, limits, executables
            )
        )
        self.actor.start.remote()
        self.number = 0
        self.unread: defaultdict[str, list[Message]] = defaultdict(list)

    def assign(self, *actions: dict[str, Any]) -> str:
        self.number += 1
        key = f"trial{self.number}"
        folder = self.folder / key
        assignment = Assignment(key, 1, recipe(*actions), 0, str(folder), lockstep=False)
        ray.get(self.actor.assign.remote({key: assignment}))
        return key

    def next(self, key: str) -> list[Message]:
        while not self.unread[key]:
            _, wire = ray.get(self.actor.next.remote("test"), timeout=120)
            for message in from_wire(wire):
                self.unread[message.trial].append(message)
        return self.unread.pop(key)

    def messages(self, key: str) -> list[Message]:
        """All messages of a trial, to its end."""
        messages = self.next(key)
        while not isinstance(messages[-1], TrialEndedMessage):
            messages += self.next(key)
        return messages

    def until_reported(self, key: str) -> list[Message]:
        messages = self.next(key)
        while not any(isinstance(message, ReportMessage) for message in messages):
            messages += self.next(key)
        return messages

    def close(self) -> None:
        ray.get(self.actor.close.remote())
        ray.kill(self.actor)


@pytest.fixture
def gang(executables: dict[str, str], tmp_path: Path) -> Iterator[OneGang]:
    made = OneGang(tmp_path, AttemptLimits(stall=1800, limit=None, silent=4), executables)
    yield made
    made.close()


def kinds(messages: list[Message]) -> list[str]:
    """The kinds of messages, failures by their class; notices about checkpoints are left out."""
    names = []
    for message in messages:
        match message:
            case AttemptStartedMessage():
                names.append("started")
            case ReportMessage():
                names.append("report")
            case AttemptFailedMessage(failure=failure):
                names.append(failure)
            case TrialEndedMessage():
                names.append("ended")
    return names


def gangs(messages: list[Message]) -> list[str]:
    return [message.gang for message in messages if isinstance(message, AttemptStartedMessage)]


def failed(messages: list[Message]) -> AttemptFailedMessage:
    (message,) = (message for message in messages if isinstance(message, AttemptFailedMessage))
    return message


def rank_processes(title: bytes = b"ray::Rank.run") -> list[int]:
    """Those that run an attempt; with another title also those that wait for one."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if command.startswith(title) and descends(parent, os.getpid()):
                processes.append(int(entry.name))
    return sorted(processes)


def descends(process: int, ancestor: int) -> bool:
    while process not in (0, 1, ancestor):
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process == ancestor


def test_ranks_report_once_and_a_gang_stays_for_the_next_trial(gang: OneGang) -> None:
    first = gang.messages(gang.assign(REPORT, REPORT))
    second = gang.messages(gang.assign(REPORT))
    assert kinds(first) == ["started", "report", "report", "ended"]
    assert kinds(second) == ["started", "report", "ended"]
    assert gangs(first) == gangs(second)


def test_what_one_rank_raises_ends_the_trial_though_the_other_waits_for_it(gang: OneGang) -> None:
    messages = gang.messages(gang.assign({"raise": "a bug on one rank", "rank": 1}, REPORT))
    assert kinds(messages)[-2:] == ["code", "ended"]
    assert "a bug on one rank" in failed(messages).message
    after = gang.messages(gang.assign(REPORT))
    assert kinds(after) == ["started", "report", "ended"]
    assert gangs(after) != gangs(messages)


def test_a_trial_whose_rank_dies_is_tried_again_on_another_gang(gang: OneGang) -> None:
    key = gang.assign(REPORT, {"sleep": 3.0}, REPORT)
    before = gang.until_reported(key)
    killed = rank_processes()[1]  # either rank: they start at the same time, so ids say nothing of their numbers
    os.kill(killed, signal.SIGKILL)
    messages = before + gang.messages(key)
    # rank 0 may report once more before it misses the other
    assert [kind for kind in kinds(messages) if kind != "report"] == ["started", "worker_lost", "started", "ended"]
    assert re.fullmatch(rf"rank [01] \(process {killed} on \S+\) was killed by SIGKILL, .*", failed(messages).message)
    last = messages[-1]
    assert isinstance(last, TrialEndedMessage)
    assert (last.status, last.attempt) == ("done", 2)
    assert len(set(gangs(messages))) == 2


@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]])
def test_a_rank_that_is_told_to_leave_saves_and_its_trial_goes_on_elsewhere(gang: OneGang, ranks: list[int]) -> None:
    """SIGTERM, as a batch system sends it to one process or to all."""
    key = gang.assign(REPORT, {"sleep": 2.0}, REPORT)
    before = gang.until_reported(key)
    processes = rank_processes()
    for rank in ranks:
        os.kill(processes[rank], signal.SIGTERM)
    messages = before + gang.messages(key)
    assert kinds(messages) == ["started", "report", "preempted", "started", "report", "ended"]
    assert failed(messages).message == "asked to leave at step 1, which is saved"
    began = [message.step for message in messages if isinstance(message, AttemptBeganMessage)]
    assert began == [0, 1]
    assert len(set(gangs(messages))) == 2


def test_a_rank_that_is_told_to_leave_between_two_trials_gets_none_any_more(gang: OneGang) -> None:
    gang.messages(gang.assign(REPORT))
    os.kill(rank_processes(b"ray::Rank")[-2], signal.SIGTERM)  # those of earlier tests' gangs have lower numbers
    messages = gang.messages(gang.assign(REPORT))
    assert kinds(messages) == ["started", "preempted", "started", "report", "ended"]


def test_a_process_that_leaves_by_itself_is_named_with_its_code(gang: OneGang) -> None:
    messages = gang.messages(gang.assign(REPORT, {"exit": 7, "rank": 1}, REPORT))
    lost = [message.message for message in messages if isinstance(message, AttemptFailedMessage)]
    assert len(lost) == 3
    assert all(re.search(r"rank 1 \(process \d+ on \S+\) was left with exit code 7", text) for text in lost)


def test_a_stopped_rank_is_noticed_freed_and_its_sisters_stacks_are_kept(gang: OneGang) -> None:
    key = gang.assign(REPORT, {"sleep": 3600.0})
    gang.until_reported(key)
    first, second = rank_processes()
    os.kill(second, signal.SIGSTOP)
    messages: list[Message] = []
    while "hung" not in kinds(messages):
        messages += gang.next(key)
    assert "no sign of life" in failed(messages).message
    stacks = "".join(path.read_text() for path in (gang.folder / key).glob("stacks*.txt"))
    assert "scripted.py" in stacks
    deadline = time.monotonic() + 60
    while Path(f"/proc/{second}").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not Path(f"/proc/{second}").exists()
    assert not Path(f"/proc/{first}").exists()


def test_the_limit_of_a_trial_really_kills(executables: dict[str, str], tmp_path: Path) -> None:
    gang = OneGang(tmp_path, AttemptLimits(limit=2.0), executables)
    try:
        messages = gang.messages(gang.assign(REPORT, {"hang": True}))
    finally:
        gang.close()
    assert kinds(messages) == ["started", "report", "killed_by_limit", "ended"], messages
    assert "resources.trial_seconds" in failed(messages).message


def test_reports_that_come_faster_than_they_are_sent_arrive_in_order_without_waiting_for_a_next_one(
    gang: OneGang,
) -> None:
    key = gang.assign({**REPORT, "repeat": 500}, {"sleep": 3600})
    steps: list[int] = []
    while not steps or steps[-1] != 500:
        steps += [message.step for message in gang.next(key) if isinstance(message, ReportMessage)]
    assert steps == list(range(1, 501))


def test_without_lockstep_a_report_is_answered_at_once() -> None:
    async def story() -> bool:
        one = Dispatcher(GangShape(), 0, lockstep=False)
        await one.assign({"key": Assignment("t", 1, recipe(REPORT), 0, ".")})
        return await asyncio.wait_for(one.report("key", to_wire([report("t", 1)])), 1.0)

    assert asyncio.run(story())
