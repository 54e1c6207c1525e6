"""The order of the samples of an epoch: a pure function of (seed, epoch), the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expflow.data.permutation import Ids, permutation
from expflow.data.streaming.balanced_sampling import balanced_draws

WINDOW_SHARDS = 8
"""Shards whose samples are mixed with each other; a loader holds this many, so it bounds memory, not only the order."""


class EpochOrder:
    """The order of one epoch, worked out window by window: a million samples cost nothing before they are needed.

    Shards are shuffled, then samples within windows of WINDOW_SHARDS shards: up to that many it is one full
    permutation. Classes are balanced within windows, too. Ranks, workers and batch size have no part in it. For one
    thread.

    Args:
        sizes: The number of samples of each shard. Ids count from 0 through the shards.
        seed: The recipe's seed.
        epoch: The epoch's number, from 0.
        shuffle: False leaves the ids in ascending order.
        labels: The class of each sample, by id, where every class is to come equally often; None: every sample once.
        passes: How often the samples come, each time in another order where they are shuffled; more than once not
            together with ``labels``.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seed: int,
        epoch: int,
        *,
        shuffle: bool = True,
        labels: NDArray[np.int64] | None = None,
        passes: int = 1,
    ) -> None:
        self._labels, self.passes = labels, passes
        self._seed, self._epoch, self._shuffle = seed, epoch, shuffle
        counts = np.asarray(sizes, dtype=np.int64)
        self._counts, self._starts = counts, np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        self.windows = [
            shards[first : first + WINDOW_SHARDS] + number * len(counts)
            for number, shards in enumerate(map(self._shards_of_pass, range(passes)))
            for first in range(0, len(shards), WINDOW_SHARDS)
        ]
        """The numbers of the shards of each window; in a further pass they go on behind those of the pass before."""
        shard_sizes = np.tile(counts, passes)
        self.ends: Ids = np.cumsum([int(shard_sizes[window].sum()) for window in self.windows], dtype=np.int64)
        """Positions in the epoch at which the windows end."""
        self._last: tuple[int, Ids] = (-1, np.zeros(0, dtype=np.int64))

    def _shards_of_pass(self, number: int) -> Ids:
        """The shards in the order of one pass."""
        if not self._shuffle:
            return np.arange(len(self._counts), dtype=np.int64)
        return permutation(len(self._counts), self._seed, self._epoch, 0, *([number] if number else []))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def windows_of(self, first: int, stop: int) -> range:
        """The numbers of the windows in which a range of positions lies.

        Args:
            first: First position in the epoch.
            stop: The position behind the last one, greater than ``first``.
        """
        return range(
            int(np.searchsorted(self.ends, first, side="right")), int(np.searchsorted(self.ends, stop, side="left")) + 1
        )

    def draws(self, first: int, stop: int) -> Ids:
        """The samples at a range of positions: their ids, plus the number of samples for each time one came before.

        Args:
            first: First position in the epoch.
            stop: The position behind the last one; cut at the epoch's end.
        """
        number, last = self._last
        begin = int(self.ends[number - 1]) if number > 0 else 0
        if number >= 0 and begin <= first < stop <= begin + len(last):  # in the window of the batch before, as most are
            return last[first - begin : stop - begin].copy()
        stop = min(stop, len(self))
        if first >= stop:
            return np.zeros(0, dtype=np.int64)
        parts = []
        for number in self.windows_of(first, stop):
            begin = int(self.ends[number - 1]) if number else 0
            parts.append(self._window(number)[max(first - begin, 0) : stop - begin])
        return np.concatenate(parts)

    def _window(self, number: int) -> Ids:
        if self._last[0] != number:
            earlier, shards = np.divmod(self.windows[number], len(self._counts))
            starts, counts = self._starts[shards] + earlier * int(self._counts.sum()), self._counts[shards]
            ids = np.concatenate([np.arange(start, start + count) for start, count in zip(starts, counts, strict=True)])
            if self._labels is not None:
                ids = balanced_draws(ids, self._labels, len(self), self._seed, self._epoch, 1 + number)
            if self._shuffle:
                ids = ids[permutation(len(ids), self._seed, self._epoch, 1 + number)]
            self._last = number, ids
        return self._last[1]


def global_batches(samples: int, batch_size: int, *, drop_last: bool) -> int:
    """How many batches an epoch has.

    Args:
        samples: The number of samples of the epoch.
        batch_size: The samples of a batch over all ranks.
        drop_last: Whether a last, short batch is left out.
    """
    return samples // batch_size if drop_last else -(-samples // batch_size)


def rank_share(ids: Ids, rank: int, ranks: int, *, size: int = 0) -> tuple[Ids, NDArray[np.bool_]]:
    """What one rank reads of a global batch: a contiguous share. Padding repeats the batch's last sample.

    Args:
        ids: The batch's samples over all ranks, at least one.
        rank: The rank's number, from 0.
        ranks: How many ranks there are.
        size: Pads the batch to so many samples over all ranks; 0 pads only as far as every rank gets equally many.

    Returns:
        The ids of the rank's samples, and which of them are valid rather than padding.
    """
    share = -(-max(len(ids), size) // ranks)
    if share * ranks == len(ids):
        return ids[rank * share : (rank + 1) * share], np.ones(share, dtype=np.bool_)
    valid = np.arange(share * ranks) < len(ids)
    padded = np.concatenate([ids, np.repeat(ids[-1:], share * ranks - len(ids))])
    own = slice(rank * share, (rank + 1) * share)
    return padded[own], valid[own]
