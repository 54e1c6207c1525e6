"""Threads stay from one trial to the next, run all that was queued before them, and end when they are told to."""

import threading

from expflow.data.streaming.thread_pool import ThreadPool, shared_pool, shut_down_pools


def test_pools_stay_until_they_are_shut_down():
    first = shared_pool("stays", 2)
    assert shared_pool("stays", 2) is first
    shut_down_pools()
    assert not any(thread.is_alive() for thread in first.threads)
    assert shared_pool("stays", 2) is not first
    shut_down_pools()


def test_tasks_run_in_the_order_of_their_submission_and_before_the_threads_end():
    pool, order = ThreadPool(1, "test"), []
    for number in range(100):
        pool.submit(lambda number=number: order.append(number))
    pool.shut_down()
    assert order == list(range(100))


def test_the_wait_for_a_running_task_is_limited():
    pool, forever = ThreadPool(1, "test", exit_wait_seconds=0.05), threading.Event()
    pool.submit(forever.wait)
    pool.shut_down()
    (thread,) = pool.threads
    assert thread.is_alive()
    assert thread.daemon
    forever.set()
    thread.join()
