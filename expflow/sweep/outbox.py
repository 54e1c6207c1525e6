"""Messages on their way from the dispatcher to whoever reads them."""

from __future__ import annotations

import asyncio

from expflow.sweep.messages import Message

MOST_MESSAGES = 2000
"""Messages that a reader gets at once."""


class Outbox:
    """Messages for the driver, numbered in the order in which they came.

    There is one reader at a time. What it has fetched is kept until it comes again, since it may be lost on the way to
    the driver; another one that comes takes its place for good, and is sent the same again.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._first = 0
        """Number of the first of them."""
        self._sent = 0
        self._reader = ""
        self._replaced: set[str] = set()
        """Readers whose place another one took: what they ask for late must not take it back."""
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, message: Message) -> None:
        """Put a message behind the others.

        Args:
            message: The message.
        """
        self._messages.append(message)
        self._changed.set()

    def close(self) -> None:
        """From now on nobody waits for a message."""
        self._closed = True
        self._changed.set()

    async def next(self, reader: str) -> tuple[int, list[Message]]:
        """Number of the first message, and the messages: none when it is closed, or another reader has come.

        Args:
            reader: Name of who asks.
        """
        if reader in self._replaced:
            return self._first, []
        if self._reader == reader:
            del self._messages[: self._sent]
            self._first += self._sent
        else:
            self._replaced.add(self._reader)
        self._reader, self._sent = reader, 0
        self._changed.set()  # for the reader before
        while self._reader == reader and not self._messages and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._reader != reader:
            return self._first, []
        batch = self._messages[:MOST_MESSAGES]
        self._sent = len(batch)
        return self._first, batch
