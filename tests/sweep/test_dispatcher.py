"""The dispatcher's own order of things, without Ray."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from expflow.sweep.assignment import Assignment, GangShape
from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.messages import Message, WireMessage, from_wire, to_wire
from tests.sweep.gang_messages import ended, report, saved, started


def dispatcher() -> Dispatcher:
    return Dispatcher(GangShape(), 0, lockstep=False)


async def within_a_second(work: Any) -> Any:
    return await asyncio.wait_for(work, 1.0)


Batch = tuple[int, list[WireMessage]]


def batches(*story: Batch) -> list[tuple[int, list[Message]]]:
    return [(first, from_wire(wire)) for first, wire in story]


def test_a_reader_that_comes_after_the_release_is_let_go_at_once() -> None:
    async def story() -> Batch:
        one = dispatcher()
        await one.release()
        await one.assign({"key": None})  # type: ignore[arg-type] - nothing of it is used
        return await within_a_second(one.next("reader"))

    assert asyncio.run(story()) == (0, [])


def test_a_release_does_not_lose_what_had_ended_before() -> None:
    async def story() -> list[Batch]:
        one = dispatcher()
        one._outbox.add(ended("a"))
        await one.release()
        return [await within_a_second(one.next("reader")) for _ in range(2)]

    assert batches(*asyncio.run(story())) == [(0, [ended("a")]), (1, [])]


def test_what_a_lost_reader_had_fetched_is_sent_again_to_the_next_under_the_same_number() -> None:
    async def story() -> list[Batch]:
        one = dispatcher()
        add = one._outbox.add
        add(started("a"))
        first = await within_a_second(one.next("old"))
        add(report("a", 1))
        second = await within_a_second(one.next("old"))  # by which the first has arrived
        waiting = asyncio.ensure_future(one.next("old"))
        await asyncio.sleep(0)
        add(saved("a", 1))
        third = await within_a_second(waiting)
        stale = asyncio.ensure_future(one.next("old"))  # it is lost while it waits
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(one.next("new"))
        assert await within_a_second(stale) == (3, [])
        add(ended("a"))
        fourth = await within_a_second(waiting)
        fifth = await within_a_second(one.next("newest"))  # the one before was lost with these messages in its hands
        return [first, second, third, fourth, fifth]

    assert batches(*asyncio.run(story())) == [
        (0, [started("a")]),
        (1, [report("a", 1)]),
        (2, [saved("a", 1)]),
        (3, [ended("a")]),
        (3, [ended("a")]),
    ]


def test_a_reader_that_was_replaced_does_not_take_its_place_back() -> None:
    """The driver may take what it fetched only after Tune's trainable has come, and then asks once more."""

    async def story() -> list[Batch]:
        one = dispatcher()
        one._outbox.add(report("a", 1))
        driver = await within_a_second(one.next("driver"))
        relayed = await within_a_second(one.next("trainable"))
        waiting = asyncio.ensure_future(one.next("trainable"))
        await asyncio.sleep(0)
        late = await within_a_second(one.next("driver"))
        one._outbox.add(ended("a"))
        return [driver, relayed, late, await within_a_second(waiting)]

    assert batches(*asyncio.run(story())) == [(0, [report("a", 1)])] * 2 + [(1, []), (1, [ended("a")])]


def test_a_reader_gets_a_bounded_number_of_messages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expflow.sweep.outbox.MOST_MESSAGES", 2)

    async def story() -> list[Batch]:
        one = dispatcher()
        for step in (1, 2, 3):
            one._outbox.add(report("a", step))
        return [await within_a_second(one.next("reader")) for _ in range(2)]

    assert batches(*asyncio.run(story())) == [(0, [report("a", 1), report("a", 2)]), (2, [report("a", 3)])]


def test_a_decision_counts_once_and_for_the_report_that_it_is_about() -> None:
    async def story() -> list[bool]:
        one = Dispatcher(GangShape(), 0, lockstep=True)
        await one.assign({"key": Assignment("t", 1, None, 0, "folder")})  # type: ignore[arg-type]
        answers = []
        for step in (1, 2):
            answer = asyncio.ensure_future(one.report("key", to_wire([report("t", step)])))
            await asyncio.sleep(0)
            await one.decide("key", 1, step - 1, False)  # about an earlier report, which has its answer
            await one.decide("key", 1, step, True)
            await one.decide("key", 1, step, False)  # sent again
            answers.append(await within_a_second(answer))
        return answers

    assert asyncio.run(story()) == [True, True]
