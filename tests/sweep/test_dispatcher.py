"""The dispatcher's own order of things, without Ray."""

from __future__ import annotations

import asyncio
from typing import Any

from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.rank import Shape


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
        one._trials["key"].messages.put_nowait(ended)
        await one.release()
        return await within_a_second(one.next("key"))

    assert asyncio.run(story()) == [ended]
