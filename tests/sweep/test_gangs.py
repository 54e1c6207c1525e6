"""Gangs of several ranks on a real Ray: together or not at all, and never lost for long."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from expflow.config.schema import Recipe, Trainer
from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.gang import Life, Patience
from expflow.sweep.machine import connected
from expflow.sweep.rank import Assignment, Shape
from expflow.tasks.specs import Action, Scripted

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from expflow.config.schema import Resources

    with connected(Resources(ranks=2), None, "gangs", paths=(), warm=()):
        yield


def recipe(*actions: dict[str, Any]) -> Recipe:
    script = tuple(Action.model_validate(each) for each in actions)
    return Recipe(task=Scripted(name="scripted", script=script), trainer=Trainer(epochs=1))


REPORT = {"report": {"val/top1": 0.5}}


class Work:
    """A dispatcher of one gang of two ranks, and what its trials say."""

    def __init__(self, folder: Path, patience: Patience) -> None:
        self.folder = folder
        self.actor = (
            ray.remote(Dispatcher)
            .options(num_cpus=0, max_concurrency=100)
            .remote(  # type: ignore[attr-defined]
                Shape(ranks=2), 1, False, patience
            )
        )
        self.actor.start.remote()
        self.number = 0

    def assign(self, *actions: dict[str, Any]) -> str:
        self.number += 1
        key = f"trial{self.number}"
        folder = self.folder / key
        assignment = Assignment(key, 1, recipe(*actions), 0, str(folder), lockstep=False)
        ray.get(self.actor.assign.remote(key, assignment))
        return key

    def messages(self, key: str) -> list[dict[str, Any]]:
        """All that a trial says, to its end."""
        said: list[dict[str, Any]] = []
        while not said or said[-1]["kind"] != "ended":
            said += ray.get(self.actor.next.remote(key), timeout=120)
        return said

    def until_reported(self, key: str) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        while not any(each["kind"] == "report" for each in said):
            said += ray.get(self.actor.next.remote(key), timeout=120)
        return said

    def close(self) -> None:
        ray.get(self.actor.close.remote())
        ray.kill(self.actor)


@pytest.fixture
def work(cluster: None, tmp_path: Path) -> Iterator[Work]:
    made = Work(tmp_path, Patience(stall=1800, limit=None, silent=4))
    yield made
    made.close()


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """What was said, failures by their class; notices about checkpoints are left out."""
    return [each.get("failure", each["kind"]) for each in messages if each["kind"] not in ("began", "saved")]


def rank_processes() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if command.startswith(b"ray::Rank.run") and descends(parent, os.getpid()):
                found.append(int(entry.name))
    return sorted(found)


def descends(process: int, ancestor: int) -> bool:
    while process not in (0, 1, ancestor):
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process == ancestor


def test_ranks_report_once_and_a_gang_stays_for_the_next_trial(work: Work) -> None:
    first = work.messages(work.assign(REPORT, REPORT))
    second = work.messages(work.assign(REPORT))
    assert kinds(first) == ["started", "report", "report", "ended"]
    assert kinds(second) == ["started", "report", "ended"]
    assert first[0]["gang"] == second[0]["gang"]


def test_what_one_rank_raises_ends_the_trial_though_the_other_waits_for_it(work: Work) -> None:
    said = work.messages(work.assign({"raise": "a bug on one rank", "rank": 1}, REPORT))
    assert kinds(said)[-2:] == ["code", "ended"]
    assert "a bug on one rank" in said[-2]["message"]
    after = work.messages(work.assign(REPORT))
    assert kinds(after) == ["started", "report", "ended"]
    assert after[0]["gang"] != said[0]["gang"]


def test_a_trial_whose_rank_dies_is_tried_again_on_another_gang(work: Work) -> None:
    key = work.assign(REPORT, {"sleep": 3.0}, REPORT)
    before = work.until_reported(key)
    os.kill(rank_processes()[1], signal.SIGKILL)
    said = before + work.messages(key)
    kept = [each for each in kinds(said) if each != "report"]  # rank 0 may say one more before it misses the other
    assert kept == ["started", "worker_lost", "started", "ended"]
    assert said[-1]["status"] == "done"
    assert said[-1]["attempt"] == 2
    assert len({each["gang"] for each in said if each["kind"] == "started"}) == 2


def test_a_stopped_rank_is_noticed_freed_and_its_sisters_stacks_are_kept(work: Work) -> None:
    key = work.assign(REPORT, {"sleep": 3600.0})
    work.until_reported(key)
    first, second = rank_processes()
    os.kill(second, signal.SIGSTOP)
    said: list[dict[str, Any]] = []
    while "hung" not in kinds(said):
        said += ray.get(work.actor.next.remote(key), timeout=120)
    failed = next(each for each in said if each.get("failure") == "hung")
    assert "no sign of life" in failed["message"]
    stacks = "".join(path.read_text() for path in (work.folder / key).glob("stacks*.txt"))
    assert "scripted.py" in stacks
    deadline = time.monotonic() + 60
    while Path(f"/proc/{second}").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not Path(f"/proc/{second}").exists()
    assert not Path(f"/proc/{first}").exists()


def test_the_limit_of_a_trial_really_kills(cluster: None, tmp_path: Path) -> None:
    work = Work(tmp_path, Patience(limit=2.0))
    try:
        said = work.messages(work.assign(REPORT, {"hang": True}))
    finally:
        work.close()
    assert kinds(said) == ["started", "report", "killed_by_limit", "ended"], said
    (message,) = (each["message"] for each in said if "failure" in each)
    assert "resources.trial_seconds" in message


def test_a_life_is_judged_by_silence_steps_and_limit() -> None:
    life = Life.begin(2, now=0.0)
    patience = Patience(stall=100.0, limit=500.0, silent=30.0)
    assert life.fault(patience, 90.0) is None  # still warming up
    life.beat(0, 1, 90.0)
    life.beat(1, 1, 90.0)
    assert life.fault(patience, 110.0) is None
    life.beat(0, 1, 130.0)
    assert life.fault(patience, 130.0) == ("hung", "rank 1 gave no sign of life for 40 s")
    life.beat(1, 1, 195.0)
    life.beat(0, 1, 195.0)
    kind, words = life.fault(patience, 195.0) or ("", "")
    assert kind == "hung"
    assert words.startswith("no step for 105 s")
    life.waiting = True
    assert life.fault(patience, 195.0) is None
    for at in range(200, 520, 20):
        life.beat(0, at, float(at))
        life.beat(1, at, float(at))
    assert (life.fault(patience, 510.0) or ("",))[0] == "killed_by_limit"


def test_reports_that_come_faster_than_they_are_sent_arrive_in_order_without_waiting_for_a_next_one(work: Work) -> None:
    key = work.assign({**REPORT, "repeat": 500}, {"sleep": 3600})
    said: list[dict[str, Any]] = []
    while not said or said[-1].get("step") != 500:
        said += ray.get(work.actor.next.remote(key), timeout=120)
    assert [each["step"] for each in said if each["kind"] == "report"] == list(range(1, 501))


def test_without_lockstep_a_report_is_answered_at_once() -> None:
    async def story() -> bool:
        one = Dispatcher(Shape(), 0, lockstep=False)
        await one.assign("key", Assignment("t", 1, recipe(REPORT), 0, "."))
        return await asyncio.wait_for(one.report("key", [{"kind": "report", "attempt": 1, "step": 1}]), 1.0)

    assert asyncio.run(story())
