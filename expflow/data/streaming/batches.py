"""One rank's batches: decoded from shards by threads, or drawn from samples that are decoded already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from expflow.data.order import EpochOrder, Ids
from expflow.data.streaming.ahead import Ahead, Flag, Making
from expflow.data.streaming.buffers import Arrays, Shapes, Spare, batch_bytes, new_batch
from expflow.data.streaming.crew import crew
from expflow.data.streaming.reading import Opened, Shards
from expflow.data.streaming.shelf import Shelf
from expflow.errors import ShardCorrupt

FETCHERS = 4
"""Threads that open shards: they wait for disks and servers, and hash."""
FETCH_PATIENCE_SECONDS = 0.2
"""A server's answer is not worth delaying the interpreter's exit."""
PART_SAMPLES = 16
"""Samples that a thread decodes at a time: few enough that threads end a batch together."""
AHEAD_BYTES = 256 * 2**20
"""Batches that are made ahead take about this much, but there are at least two and at most MOST_AHEAD."""
MOST_AHEAD = 8


class Pipeline(Protocol):
    """What turns stored samples into those of a batch (:mod:`expflow.data.augment`). Used by many threads at once."""

    @property
    def shapes(self) -> Shapes:
        """Shape and dtype of each field of one sample."""

    @property
    def changes(self) -> bool:
        """Whether :meth:`batch` does anything."""

    def sample(self, values: Mapping[str, memoryview], epoch: int, id: int, out: Mapping[str, NDArray[Any]]) -> None:
        """Decode and change one sample, writing it into ``out``."""

    def batch(self, arrays: Arrays, epoch: int, ids: Ids) -> Arrays:
        """Change samples that are decoded already."""


@dataclass(frozen=True)
class Planned:
    """What this rank reads of one global batch, which takes the positions ``first`` to ``stop`` of the epoch.

    ``valid`` is true for the first so many of ``ids``; the rest repeats the batch's last sample.
    """

    first: int
    stop: int
    ids: Ids
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Made:
    """A batch's fields; ``bad`` says of slots that hold nothing why."""

    planned: Planned
    tensors: dict[str, torch.Tensor]
    bad: Mapping[int, str] = field(default_factory=dict)


class Samples(Protocol):
    """The samples of a split, however they are kept."""

    def batches(self, order: EpochOrder, epoch: int, planned: Iterator[Planned]) -> Iterator[Made]:
        """The planned batches, one after the other. Raises ShardCorrupt at the first that cannot be made."""


class Streamed:
    """Reads shards ahead, a window at a time, and decodes with ``threads`` threads.

    With ``skip``, a sample that cannot be read leaves its slot empty instead of raising.
    """

    def __init__(self, shards: Shards, pipeline: Pipeline, *, threads: int, skip: bool) -> None:
        self._shards, self._pipeline, self._threads, self._skip = shards, pipeline, threads, skip
        self._spare = Spare(MOST_AHEAD + 2)

    def batches(self, order: EpochOrder, epoch: int, planned: Iterator[Planned]) -> Iterator[Made]:
        """The planned batches, made ahead. Raises ShardCorrupt, DataMissing or DataUnreachable where one would come."""
        first = next(planned, None)
        if first is None:
            return
        flag = Flag()
        shelf = Shelf(self._shards.opened, crew("fetch", FETCHERS, patience_seconds=FETCH_PATIENCE_SECONDS), flag)
        work = _Work(self._shards, self._pipeline, shelf, order, epoch, self._skip, flag)
        size = max(batch_bytes(self._pipeline.shapes, len(first.ids)), 1)
        ahead = Ahead(
            (self._making(work, each) for each in _with(first, planned)),
            crew("decode", self._threads),
            depth=min(max(AHEAD_BYTES // size, 2), MOST_AHEAD),
            flag=flag,
            release=shelf.close,
        )
        yield from ahead

    def _making(self, work: _Work, planned: Planned) -> Making[Made]:
        tensors = new_batch(self._pipeline.shapes, len(planned.ids), self._spare, pin=on_device())
        return work.making(planned, tensors, self._threads)


class _Work:
    """What the parts of one pass share."""

    def __init__(
        self,
        shards: Shards,
        pipeline: Pipeline,
        shelf: Shelf[Opened],
        order: EpochOrder,
        epoch: int,
        skip: bool,
        flag: Flag,
    ) -> None:
        self.shards, self.pipeline, self.shelf, self.order = shards, pipeline, shelf, order
        self.epoch, self.skip, self.flag = epoch, skip, flag
        self._dropped = 0

    def making(self, planned: Planned, tensors: dict[str, torch.Tensor], threads: int) -> Making[Made]:
        """The batch in parts; what it needs of shards, and the window behind, is asked for first."""
        windows = self.order.windows_of(planned.first, planned.stop)
        for window in self.order.windows[windows.start : windows.stop + 1]:
            self.shelf.want(window.tolist())
        arrays: Arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        # Padding repeats one sample: it is decoded once. A share that is all padding needs one to repeat.
        samples = max(int(planned.valid.sum()), 1)
        numbers, rows = self.shards.locate(planned.ids[:samples])
        size = min(PART_SAMPLES, -(-samples // threads))
        bad: dict[int, str] = {}
        parts = [
            partial(self._decode, planned, numbers, rows, range(at, min(at + size, samples)), arrays, bad)
            for at in range(0, samples, size)
        ]
        return Making(parts, partial(self._finish, planned, windows.start, samples, tensors, arrays, bad))

    def _decode(
        self, planned: Planned, numbers: list[int], rows: list[int], slots: range, arrays: Arrays, bad: dict[int, str]
    ) -> None:
        for slot in slots:
            if self.flag.raised:
                return
            out = {name: values[slot, ...] for name, values in arrays.items()}
            try:
                opened = self.shelf.get(numbers[slot])
                self._one(opened, rows[slot], int(planned.ids[slot]), out)
            except ShardCorrupt as error:
                if not self.skip:
                    raise
                bad[slot] = str(error)
                for values in out.values():
                    values.fill(0)

    def _one(self, opened: Opened, row: int, id: int, out: Arrays) -> None:
        try:
            self.pipeline.sample(opened.values(row), self.epoch, id, out)
        except (OSError, SyntaxError, ValueError) as error:
            where = f"{opened.name}: sample {opened.index.keys[row]}"
            raise ShardCorrupt(f"{self.shards.folder}: {where}: {error}{self.shards.how_to_mend}") from error

    def _finish(
        self,
        planned: Planned,
        window: int,
        samples: int,
        tensors: dict[str, torch.Tensor],
        arrays: Arrays,
        bad: dict[int, str],
    ) -> Made:
        for values in arrays.values():
            values[samples:] = values[samples - 1]
        # Batches are handed out in order, so nobody reads the windows before this one any more.
        for past in self.order.windows[self._dropped : window]:
            self.shelf.drop(past.tolist())
        self._dropped = window
        return Made(planned, tensors, {slot: why for slot, why in sorted(bad.items()) if planned.valid[slot]})


class Decoded:
    """Draws from ``arrays``, whose first axis is the sample's id; ``bad`` says of ids that hold nothing why.

    What the pipeline does to batches is done ahead by ``threads`` threads, where it does anything.
    """

    def __init__(self, arrays: Arrays, bad: Mapping[int, str], pipeline: Pipeline, *, threads: int) -> None:
        self.arrays, self.bad = arrays, dict(bad)
        self._pipeline, self._threads = pipeline, threads

    def batches(self, order: EpochOrder, epoch: int, planned: Iterator[Planned]) -> Iterator[Made]:
        """The planned batches."""
        if not self._pipeline.changes:
            yield from (self._made(epoch, each) for each in planned)
            return
        makings = (self._making(epoch, each) for each in planned)
        workers = crew("decode", self._threads)
        yield from Ahead(makings, workers, depth=self._threads + 1, flag=Flag(), release=lambda: None)

    def _making(self, epoch: int, planned: Planned) -> Making[Made]:
        made: list[Made] = []
        return Making([lambda: made.append(self._made(epoch, planned))], lambda: made[0])

    def _made(self, epoch: int, planned: Planned) -> Made:
        drawn = {name: values[planned.ids] for name, values in self.arrays.items()}
        changed = self._pipeline.batch(drawn, epoch, planned.ids)
        tensors = {name: torch.from_numpy(values) for name, values in changed.items()}
        if on_device():
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        bad = (
            {}
            if not self.bad
            else {
                slot: self.bad[id]
                for slot, id in enumerate(planned.ids.tolist())
                if planned.valid[slot] and id in self.bad
            }
        )
        return Made(planned, tensors, bad)


def on_device() -> bool:
    """Whether this process trains on a GPU: pinning memory for one that it does not use would occupy that GPU."""
    # not is_available(): it looks for the driver anew each time, half a millisecond where there is none
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _with(first: Planned, others: Iterator[Planned]) -> Iterator[Planned]:
    yield first
    yield from others
