"""Calls of several runs at once: each run's in order, none after a failure, and none that is waited for without end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from expflow.tracking.parallel_calls import WORKERS, ParallelCalls, Task


def test_all_are_made_each_tasks_in_order_and_several_at_once() -> None:
    made: dict[int, list[int]] = {number: [] for number in range(3 * WORKERS)}
    together = threading.Barrier(WORKERS, timeout=60)  # passed only where so many are at work at once

    def task(number: int) -> Task:
        def make(after_call: Callable[[], None]) -> None:
            for call in range(3):
                together.wait()
                made[number].append(call)
                after_call()

        return make

    ParallelCalls(lambda: 60.0).run([task(number) for number in made])
    assert made == {number: [0, 1, 2] for number in made}


def test_nothing_is_called_after_a_failure() -> None:
    begun, failed, made = threading.Event(), threading.Event(), list[str]()

    def fails(after_call: Callable[[], None]) -> None:
        begun.wait(60)
        raise ConnectionResetError("gone")

    def goes_on(after_call: Callable[[], None]) -> None:
        made.append("first")
        begun.set()
        failed.wait(60)
        after_call()
        made.append("second")

    def note(error: BaseException) -> None:
        noted(error)
        failed.set()

    calls = ParallelCalls(lambda: 60.0, workers=2)
    noted, calls._fail = calls._fail, note  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError, match="gone"):
        calls.run([goes_on, fails, goes_on])
    assert made == ["first"]


def test_a_call_that_is_never_answered_is_left_behind() -> None:
    answer, left = threading.Event(), threading.Event()
    made = list[str]()

    def stuck(after_call: Callable[[], None]) -> None:
        try:
            answer.wait(60)
            after_call()
            made.append("second")
        finally:
            left.set()

    with pytest.raises(TimeoutError, match="no complete answer within 0 s"):
        ParallelCalls(lambda: 0.2).run([stuck])
    answer.set()
    assert left.wait(60)
    assert made == []
