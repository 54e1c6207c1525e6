"""Following a job's log to its end over a connection that may break.

Ray's own follower takes a closed connection for the end of the job. This one asks for the status whenever the
stream ends or stays quiet, connects again and skips what it has already handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

from expflow.cluster.launcher import ClusterJob
from expflow.cluster.ray_head import connect
from expflow.cluster.ray_jobs import lookup_job, read_logs, require_job
from expflow.errors import AddressUnknown, ServerUnreachable

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

QUIET_SECONDS = 5.0
"""After this long without output the head is asked whether the job still runs."""
QUIET_ROUNDS = 12
"""After this many quiet rounds the stream is opened anew: a dead connection cannot be told from a quiet one."""
PATIENCE_SECONDS = 600.0
"""How long to wait for a head that stopped answering."""


def follow(job: str, on_text: Callable[[str], None], address: str | None = None) -> ClusterJob:
    """Hand everything that a job prints to a function, in order and once; returns the job when it has ended.

    Args:
        job: The job's id.
        on_text: Called with each piece of text.
        address: Address of the Ray head; by default the usual one.

    Raises:
        AddressUnknown: There is no such job.
        ServerUnreachable: The head stays away for ten minutes; the job itself goes on.
    """
    client = connect(address)
    require_job(client, job)
    return asyncio.run(_LogFollower(client, job, on_text).run())


class _LogFollower:
    """Follows one job. ``seen`` counts the characters of the log that were handed out."""

    def __init__(self, client: JobSubmissionClient, job: str, on_text: Callable[[str], None]) -> None:
        self.client, self.job, self.on_text = client, job, on_text
        self.seen = 0

    async def run(self) -> ClusterJob:
        waited, pause = 0.0, 1.0
        while True:
            try:
                await (
                    self._status()
                )  # Ray writes the token of who asks for the log of a job that is gone into its own log
                await self._stream()
                status = await self._status()
                if status.over:
                    await self._rest()
                    return status
                waited, pause = 0.0, 1.0
            except _broken() as error:
                if waited >= PATIENCE_SECONDS:
                    raise ServerUnreachable(
                        f"the Ray head at {self.client.get_address()} has not answered for {waited / 60:.0f} minutes "
                        f"({error}); the job {self.job} goes on without us"
                    ) from error
                waited, pause = waited + pause, min(pause * 2, 30.0)
            await asyncio.sleep(pause)

    async def _status(self) -> ClusterJob:
        status = await asyncio.to_thread(lookup_job, self.client, self.job)
        if status is None:
            raise AddressUnknown(f"the job {self.job} is gone: its Ray head was started anew; submit it again")
        return status

    async def _stream(self) -> None:
        """Hand out what the stream brings until it ends, the job is over, or it was quiet for too long."""
        lines = self.client.tail_job_logs(self.job)
        place = 0
        async with contextlib.aclosing(_patient(lines)) as chunks:
            quiet = 0
            async for chunk in chunks:
                if chunk is not None:
                    place, quiet = place + len(chunk), 0
                    self._hand_out(chunk, place)
                    continue
                quiet += 1
                status = await asyncio.to_thread(lookup_job, self.client, self.job)
                if status is None or status.over or quiet >= QUIET_ROUNDS:
                    return

    def _hand_out(self, chunk: str, place: int) -> None:
        """Pass on the part of ``chunk``, which ends at ``place``, that is new."""
        new = place - self.seen
        if new > 0:
            self.on_text(chunk[-new:])
            self.seen = place

    async def _rest(self) -> None:
        text = await asyncio.to_thread(read_logs, self.client, self.job)
        if len(text) > self.seen:
            self.on_text(text[self.seen :])
            self.seen = len(text)


def _broken() -> tuple[type[Exception], ...]:
    """The errors that a broken connection raises: Ray makes a RuntimeError of it, or lets aiohttp's error through."""
    from aiohttp import ClientError

    return (ServerUnreachable, RuntimeError, OSError, ClientError)


async def _patient(lines: AsyncIterator[str]) -> AsyncGenerator[str | None]:
    """``lines`` with a None for every :data:`QUIET_SECONDS` without one. Closing it closes ``lines``."""
    pending: asyncio.Task[str] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(lines))
            done, _ = await asyncio.wait({pending}, timeout=QUIET_SECONDS)
            if not done:
                yield None
                continue
            try:
                text = pending.result()
            except StopAsyncIteration:
                return
            finally:
                pending = None
            yield text
    finally:
        if pending is not None:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, *_broken()):
                await pending
        await lines.aclose()  # type: ignore[attr-defined]
