"""The dispatcher's own order of things, without Ray."""

from __future__ import annotations

import asyncio
from typing import Any

from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.rank import Assignment, Shape


def dispatcher() -> Dispatcher:
    return Dispatcher(Shape(), 0, lockstep=False)


async def within_a_second(work: Any) -> Any:
    return await asyncio.wait_for(work, 1.0)


def test_a_trial_that_is_assigned_after_the_release_is_let_go_at_once() -> None:
    async def story() -> list[dict[str, Any]]:
        one = dispatcher()
        await one.release()
        await one.assign("key", None)  # type: ignore[arg-type] - nothing of it is looked at
        return await within_a_second(one.next("key"))

    assert asyncio.run(story()) == []


def test_a_release_does_not_lose_what_had_ended_before() -> None:
    ended = {"kind": "ended", "trial": "a"}

    async def story() -> list[dict[str, Any]]:
        one = dispatcher()
        await one.assign("key", None)  # type: ignore[arg-type]
        one._trials["key"].say(ended)
        await one.release()
        return await within_a_second(one.next("key"))

    assert asyncio.run(story()) == [ended]


def test_what_a_lost_trainable_had_fetched_is_told_again_to_the_next() -> None:
    async def story() -> list[list[str]]:
        one = dispatcher()
        await one.assign("old", None)  # type: ignore[arg-type]
        trial = one._trials["old"]
        trial.say({"kind": "started"})
        first = await within_a_second(one.next("old"))
        trial.say({"kind": "report"})
        second = await within_a_second(one.next("old"))  # by which the first has arrived
        waiting = asyncio.ensure_future(one.next("old"))
        await asyncio.sleep(0)
        trial.say({"kind": "saved"})
        third = await within_a_second(waiting)
        stale = asyncio.ensure_future(one.next("old"))  # its trainable is lost while it waits
        await asyncio.sleep(0)
        await one.hand_over("old", "new")
        assert await within_a_second(stale) == []
        trial.say({"kind": "ended"})
        fourth = await within_a_second(one.next("new"))
        await one.hand_over("new", "newest")  # lost with the last messages in its hands
        fifth = await within_a_second(one.next("newest"))
        await one.forget("newest")
        assert one._trials == {}
        return [[each["kind"] for each in batch] for batch in (first, second, third, fourth, fifth)]

    assert asyncio.run(story()) == [["started"], ["report"], ["saved"], ["ended"], ["ended"]]


def test_a_decision_is_heard_once_and_by_the_report_that_it_is_about() -> None:
    async def story() -> list[bool]:
        one = Dispatcher(Shape(), 0, lockstep=True)
        await one.assign("key", Assignment("t", 1, None, 0, "folder"))  # type: ignore[arg-type]
        answers = []
        for step in (1, 2):
            asked = asyncio.ensure_future(one.report("key", [{"kind": "report", "attempt": 1, "step": step}]))
            await asyncio.sleep(0)
            await one.decide("key", 1, step - 1, False)  # about an earlier report: nobody waits for it any more
            await one.decide("key", 1, step, True)
            await one.decide("key", 1, step, False)  # told again
            answers.append(await within_a_second(asked))
        return answers

    assert asyncio.run(story()) == [True, True]
