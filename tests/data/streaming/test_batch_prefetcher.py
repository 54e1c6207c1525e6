"""Batches are made ahead by threads, a bounded number, and come in their order; what goes wrong comes with them."""

import gc
import subprocess
import sys
import threading

import pytest

from expflow.data.streaming.batch_prefetcher import BatchJob, BatchPrefetcher, StopFlag
from expflow.data.streaming.thread_pool import ThreadPool


@pytest.fixture
def three():
    threads = ThreadPool(3, "test")
    yield threads
    threads.shut_down()
    assert not any(thread.is_alive() for thread in threads.threads)


def prefetched(jobs, threads, depth=3, release=lambda: None, flag=None):
    return BatchPrefetcher(iter(jobs), threads, depth=depth, flag=flag or StopFlag(), release=release)


def test_results_come_in_order_however_the_threads_end(three):
    """Each batch's only part waits for the next batch's."""
    done = [threading.Event() for _ in range(31)]

    def part(number):
        if number % 3 != 2:
            assert done[number + 1].wait(10)
        done[number].set()

    jobs = (BatchJob([lambda number=number: part(number)], lambda number=number: number) for number in range(30))
    assert list(prefetched(jobs, three)) == list(range(30))


def test_only_so_many_are_begun_before_they_are_asked_for(three):
    begun = []

    def jobs():
        for number in range(20):
            begun.append(number)
            yield BatchJob([lambda: None], lambda number=number: number)

    for number in prefetched(jobs(), three, depth=4):
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

    jobs = [
        BatchJob([lambda: None], lambda: 0),
        BatchJob([first, second], lambda: 1),
        BatchJob([lambda: None], lambda: 2),
    ]
    batches = iter(prefetched(jobs, three))
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

    def jobs():
        yield BatchJob([lambda: None], lambda: 0)
        yield BatchJob([slow], lambda: 1)
        if how == "failed":
            raise RuntimeError("no more")

    flag = StopFlag()
    batches = iter(prefetched(jobs(), three, depth=2, release=released.set, flag=flag))
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
    one, ran, blocked, go_on = ThreadPool(1, "one"), [], threading.Event(), threading.Event()

    def wait():
        blocked.set()
        assert go_on.wait(10)

    jobs = [
        BatchJob([lambda: None], lambda: 0),
        BatchJob([wait], lambda: 1),
        BatchJob([lambda: ran.append(2)], lambda: 2),
    ]
    batches = iter(prefetched(jobs, one))
    next(batches)
    assert blocked.wait(10)
    batches.close()
    go_on.set()
    one.shut_down()
    assert ran == []


def test_the_interpreter_ends_with_a_pass_under_way_and_a_fetch_that_never_returns():
    program = """
import threading
from expflow.data.streaming.batch_prefetcher import BatchJob, BatchPrefetcher, StopFlag
from expflow.data.streaming.thread_pool import shared_pool

forever = threading.Event()
shared_pool("fetch", 2, exit_wait_seconds=0.1).submit(forever.wait)
flag = StopFlag()

def part():
    while not flag.raised:
        forever.wait(0.01)

jobs = iter([BatchJob([lambda: None], lambda: 0), *(BatchJob([part], lambda: 1) for _ in range(5))])
batches = iter(BatchPrefetcher(jobs, shared_pool("decode", 2), depth=3, flag=flag, release=lambda: None))
next(batches)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
