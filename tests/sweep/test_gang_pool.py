"""Who gets the free gangs of a sweep."""

from __future__ import annotations

import asyncio

from expflow.sweep.gang import Gang
from expflow.sweep.gang_pool import GangPool


def gang(number: int) -> Gang:
    return Gang(f"gang-{number}", None, [])


async def asked(pool: GangPool, count: int) -> asyncio.Task[list[Gang]]:
    task = asyncio.ensure_future(pool.take(count))
    await asyncio.sleep(0)
    return task


def test_a_trial_of_several_gangs_keeps_what_becomes_free_until_it_has_all() -> None:
    async def story() -> list[str]:
        pool = GangPool()
        large = await asked(pool, 3)
        small = [await asked(pool, 1) for _ in range(2)]
        for number in range(5):
            pool.put(gang(number))
            await asyncio.sleep(0)
            assert large.done() == (number >= 2)
            assert [task.done() for task in small] == [number >= 3, number >= 4]
        return [one.name for one in await large]

    assert asyncio.run(story()) == ["gang-0", "gang-1", "gang-2"]


def test_who_does_not_wait_any_more_holds_nobody_up() -> None:
    async def story() -> list[str]:
        pool = GangPool()
        large = await asked(pool, 2)
        small = await asked(pool, 1)
        large.cancel()
        await asyncio.sleep(0)
        pool.put(gang(1))
        return [one.name for one in await asyncio.wait_for(small, 1.0)]

    assert asyncio.run(story()) == ["gang-1"]
