"""Making batches before they are asked for: a bounded number at a time, by threads, handed out in their order."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from expflow.data.streaming.thread_pool import ThreadPool

Result = TypeVar("Result")

POLL_SECONDS = 0.5
"""How often a waiting thread checks whether its pass was stopped."""


class PassStopped(Exception):
    """The pass that a thread works for was left by its consumer."""


class StopFlag:
    """Raised once, by any thread, at any moment: a plain attribute needs no lock, which a finaliser could not take."""

    def __init__(self) -> None:
        self.raised = False


class BatchJob(Generic[Result]):
    """The work of making one batch.

    Args:
        parts: May run in any order, each on any thread.
        finish: Runs after all parts, on the consumer's thread, and returns the batch.
    """

    def __init__(self, parts: Sequence[Callable[[], None]], finish: Callable[[], Result]) -> None:
        self.parts, self._finish = parts, finish
        self._left, self._lock, self._done = len(parts), threading.Lock(), threading.Event()
        self._errors: dict[int, BaseException] = {}

    def run(self, part: int) -> None:
        """Run one part. Its error is kept for :meth:`result`.

        Args:
            part: The part's number, from 0.
        """
        try:
            self.parts[part]()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer gets it, at this batch
            self._errors[part] = error
        with self._lock:
            self._left -= 1
            done = not self._left
        if done:
            self._done.set()

    def result(self, flag: StopFlag) -> Result:
        """Wait for all parts and return the batch. An error is the first part's, in whatever order the threads ran.

        Args:
            flag: Ends the wait.

        Raises:
            PassStopped: The flag was raised.
        """
        while not self._done.wait(POLL_SECONDS):
            if flag.raised:
                raise PassStopped
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._finish()


class BatchPrefetcher(Generic[Result]):
    """Iterates over the results of jobs in their order, running several jobs ahead of the consumer.

    When the iteration ends, fails or is left, what is queued is dropped.

    Args:
        jobs: The work of each batch.
        pool: The threads that run the jobs' parts.
        depth: How many batches are made ahead.
        flag: Raised when the pass ends; parts that run long look at it.
        release: Called as soon as no part runs any more, perhaps more than once and on any thread.
    """

    def __init__(
        self,
        jobs: Iterator[BatchJob[Result]],
        pool: ThreadPool,
        *,
        depth: int,
        flag: StopFlag,
        release: Callable[[], None],
    ) -> None:
        self._jobs, self._pool, self._depth, self._flag, self._release = jobs, pool, depth, flag, release
        self._running, self._lock = 0, threading.Lock()
        _passes.add(self)

    def __iter__(self) -> Iterator[Result]:
        """The results in order; an error of a batch is raised where the batch would come."""
        queue: deque[BatchJob[Result]] = deque()
        try:
            for job in islice(self._jobs, self._depth):
                queue.append(self._begin(job))
            while queue:
                result = queue.popleft().result(self._flag)
                for job in islice(self._jobs, 1):
                    queue.append(self._begin(job))
                yield result
                del result  # or it would live until the next one is made
        finally:
            self.stop()

    def _begin(self, job: BatchJob[Result]) -> BatchJob[Result]:
        for part in range(len(job.parts)):
            self._pool.submit(partial(self._run, job, part))
        return job

    def _run(self, job: BatchJob[Result], part: int) -> None:
        with self._lock:
            if self._flag.raised:
                return
            self._running += 1
        job.run(part)
        self._ended(1)

    def _ended(self, parts: int) -> None:
        """``parts`` parts ended: release what the pass holds if it was stopped and they were the last."""
        with self._lock:
            self._running -= parts
            over = self._flag.raised and not self._running
        if over:
            self._release()

    def stop(self) -> None:
        """Have the threads drop what they do for this pass. Waits for nothing and takes no lock: the garbage collector
        may call this inside of anything, on any thread.
        """
        self._flag.raised = True
        self._pool.submit(partial(self._ended, 0))


_passes: weakref.WeakSet[BatchPrefetcher[Any]] = weakref.WeakSet()


@atexit.register
def stop_all_passes() -> None:
    """End the passes that are under way: at exit, before the threads are ended."""
    for prefetcher in list(_passes):
        prefetcher.stop()
