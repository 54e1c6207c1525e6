"""Batches are made ahead by threads, a bounded number, and come in their order; what goes wrong comes with them."""

import gc
import subprocess
import sys
import threading

import pytest

from expflow.data.streaming.ahead import Ahead, Flag, Making
from expflow.data.streaming.crew import Crew, crew, dismiss_all


@pytest.fixture
def three():
    threads = Crew(3, "test")
    yield threads
    threads.dismiss()
    assert not any(thread.is_alive() for thread in threads.threads)


def ahead(makings, threads, depth=3, release=lambda: None, flag=None):
    return Ahead(iter(makings), threads, depth=depth, flag=flag or Flag(), release=release)


def test_results_come_in_order_however_the_threads_end(three):
    """Each batch's only part waits for the next batch's."""
    done = [threading.Event() for _ in range(31)]

    def part(number):
        if number % 3 != 2:
            assert done[number + 1].wait(10)
        done[number].set()

    makings = (Making([lambda number=number: part(number)], lambda number=number: number) for number in range(30))
    assert list(ahead(makings, three)) == list(range(30))


def test_only_so_many_are_begun_before_they_are_asked_for(three):
    begun = []

    def makings():
        for number in range(20):
            begun.append(number)
            yield Making([lambda: None], lambda number=number: number)

    for number in ahead(makings(), three, depth=4):
        assert len(begun) <= number + 5
    assert len(begun) == 20


def test_an_error_comes_at_its_batch_and_is_that_of_the_first_part(three):
    later = threading.Event()

    def first():
        assert later.wait(10)
        raise ValueError("first")

    def second():
        later.set()
        raise KeyError("second")

    makings = [Making([lambda: None], lambda: 0), Making([first, second], lambda: 1), Making([lambda: None], lambda: 2)]
    batches = iter(ahead(makings, three))
    assert next(batches) == 0
    with pytest.raises(ValueError, match="first"):
        next(batches)
    assert list(batches) == []


@pytest.mark.parametrize("how", ["exhausted", "left", "failed", "collected"])
def test_everything_is_released_when_nothing_runs_any_more(three, how):
    released, running, go_on = threading.Event(), threading.Event(), threading.Event()
    early = []

    def slow():
        running.set()
        assert go_on.wait(10)
        early.append(released.is_set())

    def makings():
        yield Making([lambda: None], lambda: 0)
        yield Making([slow], lambda: 1)
        if how == "failed":
            raise RuntimeError("no more")

    flag = Flag()
    batches = iter(ahead(makings(), three, depth=2, release=released.set, flag=flag))
    if how == "failed":
        with pytest.raises(RuntimeError, match="no more"):
            next(batches)
    else:
        assert next(batches) == 0
    assert running.wait(10)
    if how == "exhausted":
        go_on.set()
        assert list(batches) == [1]
    elif how == "left":
        batches.close()
    elif how == "collected":
        cycle = [batches]
        cycle.append(cycle)
        del batches, cycle
        gc.collect()
    assert flag.raised
    go_on.set()
    assert released.wait(10)
    assert early == [False]


def test_what_is_queued_is_dropped_when_the_consumer_leaves():
    one, ran, blocked, go_on = Crew(1, "one"), [], threading.Event(), threading.Event()

    def wait():
        blocked.set()
        assert go_on.wait(10)

    makings = [Making([lambda: None], lambda: 0), Making([wait], lambda: 1), Making([lambda: ran.append(2)], lambda: 2)]
    batches = iter(ahead(makings, one))
    next(batches)
    assert blocked.wait(10)
    batches.close()
    go_on.set()
    one.dismiss()
    assert ran == []


def test_crews_stay_until_they_are_dismissed():
    first = crew("stays", 2)
    assert crew("stays", 2) is first
    dismiss_all()
    assert not any(thread.is_alive() for thread in first.threads)
    assert crew("stays", 2) is not first
    dismiss_all()


def test_the_interpreter_ends_with_a_pass_under_way_and_a_fetch_that_never_returns():
    program = """
import threading
from expflow.data.streaming.ahead import Ahead, Flag, Making
from expflow.data.streaming.crew import crew

forever = threading.Event()
crew("fetch", 2, patience_seconds=0.1).submit(forever.wait)
flag = Flag()

def part():
    while not flag.raised:
        forever.wait(0.01)

makings = iter([Making([lambda: None], lambda: 0), *(Making([part], lambda: 1) for _ in range(5))])
batches = iter(Ahead(makings, crew("decode", 2), depth=3, flag=flag, release=lambda: None))
next(batches)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
