"""Batches of a split that is decoded already and lies in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from expflow.data.streaming.batch_buffers import Arrays, trains_on_gpu
from expflow.data.streaming.batch_prefetcher import BatchJob, BatchPrefetcher, StopFlag
from expflow.data.streaming.batch_source import BatchSource, FinishedBatch, PlannedBatch, SamplePipeline
from expflow.data.streaming.epoch_order import EpochOrder
from expflow.data.streaming.thread_pool import shared_pool


class DecodedBatches(BatchSource):
    """Takes batches from decoded samples.

    Args:
        arrays: The fields; the first axis is the sample's id.
        bad: Why the place of a sample holds nothing, by id.
        pipeline: Changes batches. Where it does anything, that is done ahead of the consumer.
        threads: How many threads do so.
    """

    def __init__(self, arrays: Arrays, bad: Mapping[int, str], pipeline: SamplePipeline, *, threads: int) -> None:
        self.arrays, self.bad = arrays, dict(bad)
        self._pipeline, self._threads = pipeline, threads

    def batches(self, order: EpochOrder, epoch: int, plans: Iterator[PlannedBatch]) -> Iterator[FinishedBatch]:
        """The planned batches."""
        if not self._pipeline.changes:
            yield from (self._batch(epoch, plan) for plan in plans)
            return
        jobs = (self._job(epoch, plan) for plan in plans)
        pool = shared_pool("decode", self._threads)
        yield from BatchPrefetcher(jobs, pool, depth=self._threads + 1, flag=StopFlag(), release=lambda: None)

    def _job(self, epoch: int, plan: PlannedBatch) -> BatchJob[FinishedBatch]:
        finished: list[FinishedBatch] = []
        return BatchJob([lambda: finished.append(self._batch(epoch, plan))], lambda: finished[0])

    def _batch(self, epoch: int, plan: PlannedBatch) -> FinishedBatch:
        chosen = {name: values[plan.ids] for name, values in self.arrays.items()}
        changed = self._pipeline.batch(chosen, epoch, plan.draws)
        tensors = {name: torch.from_numpy(values) for name, values in changed.items()}
        if trains_on_gpu():
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return FinishedBatch(plan, tensors, self._bad_slots(plan) if self.bad else {})

    def _bad_slots(self, plan: PlannedBatch) -> dict[int, str]:
        return {slot: self.bad[id] for slot, id in enumerate(plan.ids.tolist()) if plan.valid[slot] and id in self.bad}
