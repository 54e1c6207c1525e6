"""Batches of a split that is streamed: shards are read ahead and decoded by threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

import torch

from expflow.data.streaming.batch_buffers import Arrays, BufferPool, batch_bytes, new_batch, trains_on_gpu
from expflow.data.streaming.batch_prefetcher import BatchJob, BatchPrefetcher, StopFlag
from expflow.data.streaming.batch_source import BatchSource, FinishedBatch, PlannedBatch, SamplePipeline
from expflow.data.streaming.epoch_order import EpochOrder
from expflow.data.streaming.sample_reader import IndexedShard, SplitShards
from expflow.data.streaming.shard_window import ShardWindow
from expflow.data.streaming.thread_pool import shared_pool
from expflow.errors import ShardCorrupt

FETCH_THREADS = 4
"""Threads that open shards: they wait for disks and servers, and hash."""
FETCH_EXIT_WAIT_SECONDS = 0.2
"""A server's answer is not worth delaying the interpreter's exit."""
PART_SAMPLES = 16
"""Samples that a thread decodes at a time: few enough that threads end a batch together."""
PREFETCH_BYTES = 256 * 2**20
"""Batches that are made ahead take about this much, but there are at least two and at most MAX_PREFETCHED."""
MAX_PREFETCHED = 8


class StreamedBatches(BatchSource):
    """Reads shards ahead, a window at a time, and decodes with several threads.

    Args:
        shards: The shards of the split.
        pipeline: Decodes and changes samples.
        threads: How many threads decode.
        skip: Whether a sample that cannot be read leaves its slot empty instead of raising.
    """

    def __init__(self, shards: SplitShards, pipeline: SamplePipeline, *, threads: int, skip: bool) -> None:
        self._shards, self._pipeline, self._threads, self._skip = shards, pipeline, threads, skip
        self._buffers = BufferPool(MAX_PREFETCHED + 2)

    def batches(self, order: EpochOrder, epoch: int, plans: Iterator[PlannedBatch]) -> Iterator[FinishedBatch]:
        """The planned batches, made ahead. Raises ShardCorrupt, DataMissing or DataUnreachable where one would come."""
        first = next(plans, None)
        if first is None:
            return
        flag = StopFlag()
        fetchers = shared_pool("fetch", FETCH_THREADS, exit_wait_seconds=FETCH_EXIT_WAIT_SECONDS)
        count = max(len(self._shards.sizes), 1)
        window = ShardWindow(lambda number: self._shards.opened(number % count), fetchers, flag)
        one_pass = _StreamedPass(self._shards, self._pipeline, window, order, epoch, self._skip, flag)
        size = max(batch_bytes(self._pipeline.shapes, len(first.ids)), 1)
        yield from BatchPrefetcher(
            (self._job(one_pass, plan) for plan in chain([first], plans)),
            shared_pool("decode", self._threads),
            depth=min(max(PREFETCH_BYTES // size, 2), MAX_PREFETCHED),
            flag=flag,
            release=window.close,
        )

    def _job(self, one_pass: _StreamedPass, plan: PlannedBatch) -> BatchJob[FinishedBatch]:
        tensors = new_batch(self._pipeline.shapes, len(plan.ids), self._buffers, pin=trains_on_gpu())
        return one_pass.job(plan, tensors, self._threads)


class _StreamedPass:
    """What the jobs of one pass share."""

    def __init__(
        self,
        shards: SplitShards,
        pipeline: SamplePipeline,
        window: ShardWindow[IndexedShard],
        order: EpochOrder,
        epoch: int,
        skip: bool,
        flag: StopFlag,
    ) -> None:
        self.shards, self.pipeline, self.window, self.order = shards, pipeline, window, order
        self.epoch, self.skip, self.flag = epoch, skip, flag
        self._released_windows = 0

    def job(self, plan: PlannedBatch, tensors: dict[str, torch.Tensor], threads: int) -> BatchJob[FinishedBatch]:
        """The batch in parts. The shards that it needs, and those of the window behind, are requested first."""
        windows = self.order.windows_of(plan.first, plan.stop)
        for shards in self.order.windows[windows.start : windows.stop + 1]:
            self.window.request(shards.tolist())
        arrays: Arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        # Padding repeats one sample: it is decoded once. A share that is all padding needs one to repeat.
        samples = max(int(plan.valid.sum()), 1)
        numbers, rows = self.shards.locate(plan.ids[:samples])
        if self.order.passes > 1:
            earlier = plan.draws[:samples] // max(self.shards.samples, 1) * len(self.shards.sizes)
            numbers = [number + int(before) for number, before in zip(numbers, earlier, strict=True)]
        size = min(PART_SAMPLES, -(-samples // threads))
        bad: dict[int, str] = {}
        parts = [
            partial(self._decode, plan, numbers, rows, range(first, min(first + size, samples)), arrays, bad)
            for first in range(0, samples, size)
        ]
        return BatchJob(parts, partial(self._finish, plan, windows.start, samples, tensors, arrays, bad))

    def _decode(
        self, plan: PlannedBatch, numbers: list[int], rows: list[int], slots: range, arrays: Arrays, bad: dict[int, str]
    ) -> None:
        for slot in slots:
            if self.flag.raised:
                return
            out = {name: values[slot, ...] for name, values in arrays.items()}
            try:
                shard = self.window.get(numbers[slot])
                self._decode_sample(shard, rows[slot], int(plan.draws[slot]), out)
            except ShardCorrupt as error:
                if not self.skip:
                    raise
                bad[slot] = str(error)
                for values in out.values():
                    values.fill(0)

    def _decode_sample(self, shard: IndexedShard, row: int, id: int, out: Arrays) -> None:
        try:
            self.pipeline.sample(shard.values(row), self.epoch, id, out)
        except (OSError, SyntaxError, ValueError) as error:
            where = f"{shard.name}: sample {shard.index.keys[row]}"
            raise ShardCorrupt(f"{self.shards.folder}: {where}: {error}{self.shards.how_to_mend}") from error

    def _finish(
        self,
        plan: PlannedBatch,
        window: int,
        samples: int,
        tensors: dict[str, torch.Tensor],
        arrays: Arrays,
        bad: dict[int, str],
    ) -> FinishedBatch:
        for values in arrays.values():
            values[samples:] = values[samples - 1]
        # Batches are handed out in order, so no later one reads the windows before this one.
        for shards in self.order.windows[self._released_windows : window]:
            self.window.release(shards.tolist())
        self._released_windows = window
        return FinishedBatch(plan, tensors, {slot: why for slot, why in sorted(bad.items()) if plan.valid[slot]})
