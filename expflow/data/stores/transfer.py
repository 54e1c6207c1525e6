"""Fetching one file from a store that may be slow, break off, send wrong bytes, or change the file meanwhile.

One loop serves all stores. Every byte is counted and hashed as it arrives. A broken transfer goes on at the byte it
reached; content that turns out to be something else is thrown away and fetched anew, a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from expflow.data.stores.download_buffer import DownloadBuffer
from expflow.data.stores.retry_policy import RetryPolicy, TransientFailure, UnexpectedContent
from expflow.errors import DataUnreachable, ShardCorrupt

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry

Answer = TypeVar("Answer")


class Body(Protocol):
    """The bytes of one answer of a store.

    Attributes:
        start: Offset in the file at which the bytes begin.
        total: The file's size in bytes; None where the store does not say it.
        tag: What names the file's version; "" where nothing does.
    """

    start: int
    total: int | None
    tag: str

    def chunks(self) -> Iterator[bytes]:
        """The bytes, as they come.

        Raises:
            TransientFailure: The connection broke.
            UnexpectedContent: The bytes are not what was asked for.
        """

    def close(self) -> None:
        """Let go of the connection."""


class ByteSource(Protocol):
    """A store of files."""

    def open(self, name: str, start: int, tag: str, size: int | None) -> Body:
        """Open a file from an offset on, or whole where that is not possible or its version is another one.

        Args:
            name: The file's name in the store's folder.
            start: Offset in bytes.
            tag: The version that earlier bytes were of; "" where it is not known.
            size: The size in bytes that the file should have; None where it is not known.

        Raises:
            TransientFailure: Another attempt makes sense.
            UnexpectedContent: Another attempt from the file's beginning makes sense.
        """

    def display_file(self, name: str) -> str:
        """A file's address for messages.

        Args:
            name: The file's name in the store's folder; "" for the folder itself.
        """


class Transfer:
    """Fetches files from a store, and tries again.

    Args:
        source: The store.
        retry_policy: When to try again, and when to give up.
    """

    def __init__(self, source: ByteSource, retry_policy: RetryPolicy) -> None:
        self._source, self._policy = source, retry_policy

    def fetch(
        self, name: str, buffer: DownloadBuffer, shard: ShardEntry | None = None, most: int | None = None
    ) -> None:
        """Download a whole file, going on from what the buffer holds.

        Args:
            name: The file's name in the store's folder.
            buffer: Where the bytes go.
            shard: The size and sha256 that the file must have; None where they are not known.
            most: The size in bytes that a file of unknown size may have; None for any.

        Raises:
            DataMissing: The store has no such file.
            DataUnreachable: It was given up.
            ShardCorrupt: The store has other bytes than ``shard`` says.
            AddressRefused: The store redirects to a place that is refused.
        """
        _FileTransfer(self._source, self._policy, name, buffer, shard, most).run()

    def call(self, name: str, request: Callable[[], Answer]) -> Answer:
        """What a request returns, repeated while it fails transiently.

        Args:
            name: The file that it is about, for the message; "" for the folder.
            request: Asks the store.

        Raises:
            DataUnreachable: It was given up.
        """
        for failures in range(1, self._policy.attempts + 1):
            try:
                return request()
            except (TransientFailure, UnexpectedContent) as error:
                reason, retry_after = str(error), getattr(error, "retry_after", None)
            if failures < self._policy.attempts:
                self._policy.wait(failures, retry_after)
        raise DataUnreachable(
            f"{self._source.display_file(name)}: given up after {self._policy.attempts} attempts: {reason}"
        )


class _FileTransfer:
    """The attempts at one file."""

    def __init__(
        self,
        source: ByteSource,
        policy: RetryPolicy,
        name: str,
        buffer: DownloadBuffer,
        shard: ShardEntry | None,
        most: int | None,
    ) -> None:
        self.source, self.policy, self.name, self.buffer, self.shard = source, policy, name, buffer, shard
        self.size, self.most = shard.bytes if shard else None, most
        self.tag = ""
        self.rejected = -1 if buffer.size else 0  # a beginning that another process left may be to blame
        self.furthest, self.idle_attempts = buffer.size, 0

    def run(self) -> None:
        policy, reason = self.policy, ""
        for attempt in range(1, policy.total_attempts + 1):
            retry_after = None
            try:
                self.attempt()
                return
            except TransientFailure as failure:
                reason, retry_after = str(failure), failure.retry_after
            except UnexpectedContent as failure:
                reason = str(failure)
                self.start_over(reason)
            self.idle_attempts = 0 if self.buffer.size > self.furthest else self.idle_attempts + 1
            self.furthest = max(self.furthest, self.buffer.size)
            if self.idle_attempts >= policy.attempts or attempt == policy.total_attempts:
                break
            policy.wait(max(self.idle_attempts, 1), retry_after)
        got = f"{self.furthest} bytes" if self.size is None else f"{self.furthest} of {self.size} bytes"
        raise DataUnreachable(
            f"{self.source.display_file(self.name)}: given up after {attempt} attempts with {got}: {reason}"
        )

    def start_over(self, reason: str) -> None:
        """Throw away what is there. Raises ShardCorrupt once that happened too often."""
        self.buffer.restart()
        self.tag = ""
        self.rejected += 1
        if self.rejected >= self.policy.content_attempts:
            raise ShardCorrupt(f"{self.source.display_file(self.name)}: {reason}; fetched {self.rejected} times")

    def attempt(self) -> None:
        """One attempt, from the byte that was reached."""
        buffer, size = self.buffer, self.size
        if size is None or buffer.size < size or not size:
            self.receive()
        if size is not None and buffer.size != size:
            raise UnexpectedContent(f"expected {size} bytes, found {buffer.size}")
        if self.shard and buffer.sha256 != self.shard.sha256:
            raise UnexpectedContent(f"expected sha256 {self.shard.sha256}, found {buffer.sha256}")

    def receive(self) -> None:
        body = self.source.open(self.name, self.buffer.size, self.tag, self.size)
        try:
            self.align(body)
            for chunk in self.fast_enough(body):
                if self.size is not None and self.buffer.size + len(chunk) > self.size:
                    raise UnexpectedContent(f"expected {self.size} bytes, found more")
                if self.most is not None and self.buffer.size + len(chunk) > self.most:
                    raise DataUnreachable(
                        f"{self.source.display_file(self.name)}: more than {self.most} bytes came; none is that large"
                    )
                self.buffer.write(chunk)
        finally:
            body.close()
        end = body.total if self.size is None else self.size
        if end is not None and self.buffer.size < end:
            raise TransientFailure(f"it broke off at byte {self.buffer.size} of {end}")

    def align(self, body: Body) -> None:
        """Drop what is there if ``body`` is the whole file. Raises UnexpectedContent where the two do not fit."""
        if self.size is not None and body.total not in (None, self.size):
            raise UnexpectedContent(f"expected {self.size} bytes, the store says {body.total}")
        if body.start == 0:
            if self.buffer.size:
                self.buffer.restart()
        elif body.start != self.buffer.size:
            raise UnexpectedContent(f"asked for byte {self.buffer.size} on, got byte {body.start} on")
        elif self.tag and body.tag and body.tag != self.tag:
            raise UnexpectedContent("it changed while it was read")
        self.tag = body.tag

    def fast_enough(self, body: Body) -> Iterator[bytes]:
        """The chunks of ``body``. Raises TransientFailure where they come too slowly to wait for."""
        clock, window = self.policy.clock, self.policy.stall_timeout
        began, received = clock(), 0
        for chunk in body.chunks():
            received += len(chunk)
            yield chunk
            if (passed := clock() - began) >= window:
                if received < self.policy.min_bytes_per_second * passed:
                    raise TransientFailure(f"only {received} bytes came in {passed:.0f} s")
                began, received = clock(), 0
