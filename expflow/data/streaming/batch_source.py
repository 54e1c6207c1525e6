"""What a loader asks for batches: the interface of split readers, and what goes in and comes out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from expflow.data.permutation import Ids
from expflow.data.streaming.batch_buffers import Arrays, Shapes
from expflow.data.streaming.epoch_order import EpochOrder


class SamplePipeline(Protocol):
    """What turns stored samples into those of a batch (:mod:`expflow.data.augment`). Used by many threads at once."""

    @property
    def shapes(self) -> Shapes:
        """Shape and dtype of each field of one sample."""

    @property
    def changes(self) -> bool:
        """Whether :meth:`batch` does anything."""

    def sample(self, values: Mapping[str, memoryview], epoch: int, id: int, out: Mapping[str, NDArray[Any]]) -> None:
        """Decode and change one sample.

        Args:
            values: The encoded bytes of each field.
            epoch: The epoch's number, from 0.
            id: What its random numbers follow from: the sample's position in its split, unless it came before.
            out: Where each field is written.
        """

    def batch(self, arrays: Arrays, epoch: int, ids: Ids) -> Arrays:
        """Change samples that are decoded already.

        Args:
            arrays: The decoded fields, (n, …) each.
            epoch: The epoch's number, from 0.
            ids: What their random numbers follow from: the samples' positions in their split, unless they came before.
        """


@dataclass(frozen=True)
class PlannedBatch:
    """What one rank reads of a global batch.

    Attributes:
        first: The global batch's first position in the epoch.
        stop: The position behind its last one.
        ids: The rank's samples, (n,).
        draws: What is random follows from these, (n,): the ids, plus the number of samples for each time one came
            before in the epoch.
        valid: True for the first so many of ``ids``, (n,); the rest repeats the batch's last sample.
    """

    first: int
    stop: int
    ids: Ids
    draws: Ids
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class FinishedBatch:
    """A batch that was read.

    Attributes:
        plan: What was asked for.
        tensors: The fields, (n, …) each.
        bad: Why a slot holds nothing, by slot.
    """

    plan: PlannedBatch
    tensors: dict[str, torch.Tensor]
    bad: Mapping[int, str] = field(default_factory=dict)


class BatchSource(Protocol):
    """The samples of a split, however they are kept."""

    def batches(self, order: EpochOrder, epoch: int, plans: Iterator[PlannedBatch]) -> Iterator[FinishedBatch]:
        """Read batches one after the other.

        Args:
            order: The epoch's order.
            epoch: The epoch's number, from 0.
            plans: What this rank reads, in the order of the batches.

        Raises:
            ShardCorrupt: At the first batch that cannot be made.
        """
