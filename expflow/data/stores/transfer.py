"""Fetching one file from a store that may be slow, break off, lie, or change under our hands: one loop for all stores.

Every byte is counted and hashed as it arrives. A broken transfer goes on at the byte it reached; what turns out to be
something else is thrown away and fetched anew, a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from expflow.data.stores.arriving import Arriving
from expflow.data.stores.patience import Passing, Patience, Wrong
from expflow.errors import DataUnreachable, ShardCorrupt

if TYPE_CHECKING:
    from expflow.data.manifest import Shard

Answer = TypeVar("Answer")


class Body(Protocol):
    """The bytes of one answer."""

    @property
    def start(self) -> int:
        """Where in the file the bytes begin."""

    @property
    def total(self) -> int | None:
        """The file's size, where it was said."""

    @property
    def tag(self) -> str:
        """What names the file's version; "" where nothing does."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, as they come. Raises Passing or Wrong."""

    def close(self) -> None:
        """Let go of the connection."""


class Source(Protocol):
    """A store of files."""

    def open(self, name: str, start: int, tag: str, size: int | None) -> Body:
        """The file from byte ``start`` on, or, where that is not possible or it is no longer of version ``tag``, whole.

        ``size`` is what it should have. Raises Passing or Wrong where another attempt makes sense, else the error.
        """

    def showing(self, name: str) -> str:
        """Its address for messages."""


class Transfer:
    """Fetches from ``source``, with ``patience``."""

    def __init__(self, source: Source, patience: Patience) -> None:
        self._source, self._patience = source, patience

    def fetch(self, name: str, arriving: Arriving, shard: Shard | None = None) -> None:
        """Have the whole file arrive, going on from what is there; hold it against ``shard`` where that is known.

        Raises DataMissing, DataUnreachable, ShardCorrupt or AddressRefused.
        """
        _Attempts(self._source, self._patience, name, arriving, shard).run()

    def ask(self, name: str, question: Callable[[], Answer]) -> Answer:
        """What ``question`` returns, asked again while it raises Passing."""
        for failures in range(1, self._patience.attempts + 1):
            try:
                return question()
            except (Passing, Wrong) as error:
                reason, after = str(error), getattr(error, "after", None)
            if failures < self._patience.attempts:
                self._patience.wait(failures, after)
        raise DataUnreachable(
            f"{self._source.showing(name)}: given up after {self._patience.attempts} attempts: {reason}"
        )


class _Attempts:
    """The attempts at one file."""

    def __init__(self, source: Source, patience: Patience, name: str, arriving: Arriving, shard: Shard | None) -> None:
        self.source, self.patience, self.name, self.arriving, self.shard = source, patience, name, arriving, shard
        self.size = shard.bytes if shard else None
        self.tag = ""
        self.wrong = -1 if arriving.size else 0  # a beginning that another process left may be to blame
        self.furthest, self.idle = arriving.size, 0

    def run(self) -> None:
        reason = ""
        for done in range(1, self.patience.in_all + 1):
            after = None
            try:
                self.once()
                return
            except Passing as failure:
                reason, after = str(failure), failure.after
            except Wrong as failure:
                reason = str(failure)
                self.anew(reason)
            self.idle = 0 if self.arriving.size > self.furthest else self.idle + 1
            self.furthest = max(self.furthest, self.arriving.size)
            if self.idle >= self.patience.attempts or done == self.patience.in_all:
                break
            self.patience.wait(max(self.idle, 1), after)
        got = f"{self.furthest} bytes" if self.size is None else f"{self.furthest} of {self.size} bytes"
        raise DataUnreachable(f"{self.source.showing(self.name)}: given up after {done} attempts with {got}: {reason}")

    def anew(self, reason: str) -> None:
        """Throw away what is there. Raises ShardCorrupt once that happened too often."""
        self.arriving.restart()
        self.tag = ""
        self.wrong += 1
        if self.wrong >= self.patience.wrong:
            raise ShardCorrupt(f"{self.source.showing(self.name)}: {reason}; fetched {self.wrong} times")

    def once(self) -> None:
        """One attempt, from the byte that was reached."""
        arriving, size = self.arriving, self.size
        if size is None or arriving.size < size or not size:
            self.receive()
        if size is not None and arriving.size != size:
            raise Wrong(f"expected {size} bytes, found {arriving.size}")
        if self.shard and arriving.sha256 != self.shard.sha256:
            raise Wrong(f"expected sha256 {self.shard.sha256}, found {arriving.sha256}")

    def receive(self) -> None:
        body = self.source.open(self.name, self.arriving.size, self.tag, self.size)
        try:
            self.accept(body)
            for chunk in self.paced(body):
                if self.size is not None and self.arriving.size + len(chunk) > self.size:
                    raise Wrong(f"expected {self.size} bytes, found more")
                self.arriving.write(chunk)
        finally:
            body.close()
        end = body.total if self.size is None else self.size
        if end is not None and self.arriving.size < end:
            raise Passing(f"it broke off at byte {self.arriving.size} of {end}")

    def accept(self, body: Body) -> None:
        """Make what comes fit what is there."""
        if self.size is not None and body.total not in (None, self.size):
            raise Wrong(f"expected {self.size} bytes, the store says {body.total}")
        if body.start == 0:
            if self.arriving.size:
                self.arriving.restart()
        elif body.start != self.arriving.size:
            raise Wrong(f"asked for byte {self.arriving.size} on, got byte {body.start} on")
        elif self.tag and body.tag and body.tag != self.tag:
            raise Wrong("it changed while it was read")
        self.tag = body.tag

    def paced(self, body: Body) -> Iterator[bytes]:
        """The chunks of ``body``. Raises Passing where they come too slowly to wait for."""
        clock, window = self.patience.clock, self.patience.stall
        began, got = clock(), 0
        for chunk in body.chunks():
            got += len(chunk)
            yield chunk
            if (passed := clock() - began) >= window:
                if got < self.patience.slowest * passed:
                    raise Passing(f"only {got} bytes came in {passed:.0f} s")
                began, got = clock(), 0
