"""Trials on nodes that Ray is to take away."""

from __future__ import annotations

import asyncio

import ray

from expflow.sweep.assignment import Assignment, GangShape, RankPlace
from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.draining_nodes import DrainingNodes
from expflow.sweep.gang import Gang
from expflow.sweep.liveness import Liveness


def test_rays_client_still_has_the_method() -> None:
    assert callable(ray._raylet.GcsClient)  # type: ignore[attr-defined] - passes calls on to the next
    assert callable(ray._raylet.InnerGcsClient.get_draining_nodes)  # type: ignore[attr-defined]


def test_a_client_without_the_method_knows_nothing() -> None:
    asked = DrainingNodes("127.0.0.1:1")
    asked._client = object()
    assert asked.ids() == frozenset()


def test_a_trial_there_is_asked_to_leave_and_others_are_not() -> None:
    async def story() -> list[str]:
        one = Dispatcher(GangShape(), 0, lockstep=False)
        for name in ("a", "b"):
            await one.assign({name: Assignment(name, 1, None, 0, ".")})  # type: ignore[arg-type] - nothing of it is used
            one._gangs[name] = Gang(name, None, [], [RankPlace(f"node of {name}", "host", 1, "")])
            one._trials[name].liveness = one._busy[name] = Liveness.begin(1, 0.0)
        one._leave_nodes(frozenset({"node of b"}))
        return [await one.beat(name, 0, 1) for name in ("a", "b")]

    assert asyncio.run(story()) == ["", "leave"]
