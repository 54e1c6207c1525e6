"""Making batches ahead of whoever consumes them: a bounded number at a time, by threads, handed out in their order."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from expflow.data.streaming.crew import Crew

Result = TypeVar("Result")

LOOK_SECONDS = 0.5
"""How often a thread that waits looks whether its pass was stopped."""


class Stopped(Exception):
    """The pass that a thread works for was left by its consumer."""


class Flag:
    """Raised once, by anyone, at any moment: a plain attribute needs no lock, which a finaliser could not take."""

    def __init__(self) -> None:
        self.raised = False


class Making(Generic[Result]):
    """One batch in the making: ``parts`` may run in any order on any threads, ``finish`` follows all of them."""

    def __init__(self, parts: Sequence[Callable[[], None]], finish: Callable[[], Result]) -> None:
        self.parts, self._finish = parts, finish
        self._left, self._lock, self._done = len(parts), threading.Lock(), threading.Event()
        self._errors: dict[int, BaseException] = {}

    def run(self, part: int) -> None:
        """Run one part. Its error is kept for :meth:`result`."""
        try:
            self.parts[part]()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer gets it, at this batch
            self._errors[part] = error
        with self._lock:
            self._left -= 1
            done = not self._left
        if done:
            self._done.set()

    def result(self, flag: Flag) -> Result:
        """Wait for all parts. Raises the first part's error: the same one however the threads ran."""
        while not self._done.wait(LOOK_SECONDS):
            if flag.raised:
                raise Stopped
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._finish()


class Ahead(Generic[Result]):
    """An iterator over the results of ``makings``, of which ``depth`` are made ahead of the consumer by ``crew``.

    When it ends, fails or is left, what is queued is dropped, and ``release`` is called as soon as no part runs any
    more, perhaps more than once and on any thread. ``flag`` tells the parts.
    """

    def __init__(
        self, makings: Iterator[Making[Result]], crew: Crew, *, depth: int, flag: Flag, release: Callable[[], None]
    ) -> None:
        self._makings, self._crew, self._depth, self._flag, self._release = makings, crew, depth, flag, release
        self._running, self._lock = 0, threading.Lock()
        _passes.add(self)

    def __iter__(self) -> Iterator[Result]:
        """The results in order; an error of a batch is raised where the batch would come."""
        queue: deque[Making[Result]] = deque()
        try:
            for making in islice(self._makings, self._depth):
                queue.append(self._begin(making))
            while queue:
                result = queue.popleft().result(self._flag)
                for making in islice(self._makings, 1):
                    queue.append(self._begin(making))
                yield result
                del result  # or it would live until the next one is made
        finally:
            self.stop()

    def _begin(self, making: Making[Result]) -> Making[Result]:
        for part in range(len(making.parts)):
            self._crew.submit(partial(self._run, making, part))
        return making

    def _run(self, making: Making[Result], part: int) -> None:
        with self._lock:
            if self._flag.raised:
                return
            self._running += 1
        making.run(part)
        self._left()

    def _left(self, ended: int = 1) -> None:
        with self._lock:
            self._running -= ended
            over = self._flag.raised and not self._running
        if over:
            self._release()

    def stop(self) -> None:
        """Have the threads drop what they do for this pass. Waits for nothing and takes no lock: the garbage collector
        may call this inside of anything, on any thread.
        """
        self._flag.raised = True
        self._crew.submit(partial(self._left, 0))


_passes: weakref.WeakSet[Ahead[Any]] = weakref.WeakSet()


@atexit.register
def stop_all() -> None:
    """End the passes that are under way: at exit, before the threads are dismissed."""
    for each in list(_passes):
        each.stop()
