"""Writing planned shards by several processes at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from expflow.data.dataspec import FieldSpec
from expflow.data.prepare.finished_shard import FinishedShard, write_planned_shard
from expflow.data.prepare.shard_plan import PlannedShard
from expflow.data.sources.base import ReadSample, SampleSource
from expflow.errors import Missing

POLL_SECONDS = 0.1
"""How often the number of finished samples is looked up."""


def write_by_processes(
    source: SampleSource,
    missing: Sequence[PlannedShard],
    folder: Path,
    workers: int,
    on_count: Callable[[int], None],
) -> Iterator[FinishedShard]:
    """Iterate over the shards in order while processes write them, at most two per process ahead of the first.

    Args:
        source: a portable source, whose ``read`` is sent to the processes.
        missing: the shards that are to be written.
        folder: the hidden folder of the build.
        workers: number of processes.
        on_count: called with the number of samples that the processes have finished so far.

    Raises:
        Missing: a process died.
    """
    context = get_context("spawn")  # a forked child would inherit threads' locks, and the lock on this build
    counter = context.Value("q", 0)
    arguments = (source.read, dict(source.fields), dict(source.shapes), folder, counter)
    pool = ProcessPoolExecutor(min(workers, len(missing)), context, initializer=_initialize, initargs=arguments)
    try:
        yield from _in_order(pool, missing, 2 * workers, lambda: on_count(counter.value))
    except BrokenProcessPool as error:
        raise Missing(
            "a process of the build died, perhaps for lack of memory; the same command goes on with what is done, and"
            " --workers takes fewer processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, missing: Sequence[PlannedShard], window: int, on_poll: Callable[[], None]
) -> Iterator[FinishedShard]:
    """The shards in order; at most ``window`` are written or wait at once."""
    futures: dict[int, Future[FinishedShard]] = {}
    for number in range(len(missing)):
        for ahead in range(number, min(number + window, len(missing))):
            if ahead not in futures:
                futures[ahead] = pool.submit(_write, missing[ahead])
        while not wait([futures[number]], POLL_SECONDS).done:
            on_poll()
        on_poll()
        yield futures[number].result()
        futures[number] = Future()  # what was handed on need not be kept


class _WorkerState:
    """What a process of a build needs for every shard."""

    read: ReadSample
    fields: Mapping[str, str]
    shapes: Mapping[str, FieldSpec]
    folder: Path
    counter: Synchronized[int]


def _initialize(
    read: ReadSample, fields: Mapping[str, str], shapes: Mapping[str, FieldSpec], folder: Path, counter: Any
) -> None:
    """Set a process up. It leaves Ctrl-C to its parent, and ends when the parent ends, in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _WorkerState.read = staticmethod(read)
    _WorkerState.fields, _WorkerState.shapes = fields, shapes
    _WorkerState.folder, _WorkerState.counter = folder, counter


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _write(planned: PlannedShard) -> FinishedShard:
    state = _WorkerState
    return write_planned_shard(state.read, state.fields, state.shapes, planned, state.folder, _count_sample)


def _count_sample() -> None:
    with _WorkerState.counter.get_lock():
        _WorkerState.counter.value += 1
