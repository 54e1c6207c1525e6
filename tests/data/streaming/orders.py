"""The order of a whole epoch at once, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

from expflow.data.permutation import Ids
from expflow.data.streaming.epoch_order import EpochOrder


def epoch_order(sizes: int | Sequence[int], seed: int, epoch: int) -> Ids:
    """Ids of all samples in the order of one epoch; an int stands for one shard."""
    order = EpochOrder([sizes] if isinstance(sizes, int) else sizes, seed, epoch)
    return order.draws(0, len(order))
