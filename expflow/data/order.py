"""The order of samples: pure functions of seeds, the same on every machine.

Numpy promises that the raw output of its bit generators never changes, but not that ``Generator.permutation`` does
not; so a permutation here is the stable sort of Philox's raw output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

WINDOW_SHARDS = 8
"""Shards whose samples are mixed with each other; a loader holds this many, so it bounds memory, not only the order."""


def permutation(n: int, *seeds: int) -> Ids:
    """0..n-1 shuffled by ``seeds`` (non-negative integers, each of which matters)."""
    bits = np.random.Philox(np.random.SeedSequence(seeds)).random_raw(n)
    return np.argsort(np.asarray(bits, dtype=np.uint64), kind="stable").astype(np.int64, copy=False)


class EpochOrder:
    """The order of one epoch, worked out window by window: a million samples cost nothing before they are needed.

    ``sizes`` are the samples of each shard, whose ids are consecutive. Shards are shuffled, then samples within windows
    of WINDOW_SHARDS shards: up to that many it is one full permutation. Without ``shuffle`` ids ascend. Ranks, workers
    and batch size have no part in it. For one thread.
    """

    def __init__(self, sizes: Sequence[int], seed: int, epoch: int, *, shuffle: bool = True) -> None:
        self._seed, self._epoch, self._shuffle = seed, epoch, shuffle
        counts = np.asarray(sizes, dtype=np.int64)
        self._counts, self._starts = counts, np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        shards = permutation(len(counts), seed, epoch, 0) if shuffle else np.arange(len(counts), dtype=np.int64)
        self.windows = [shards[first : first + WINDOW_SHARDS] for first in range(0, len(shards), WINDOW_SHARDS)]
        """The shards of each window."""
        self.ends: Ids = np.cumsum([int(counts[window].sum()) for window in self.windows], dtype=np.int64)
        """Positions in the epoch at which the windows end."""
        self._last: tuple[int, Ids] = (-1, np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def windows_of(self, first: int, stop: int) -> range:
        """Numbers of the windows that positions ``first`` to ``stop`` (excluded) lie in; at least one position."""
        return range(
            int(np.searchsorted(self.ends, first, side="right")), int(np.searchsorted(self.ends, stop, side="left")) + 1
        )

    def ids(self, first: int, stop: int) -> Ids:
        """Ids of the samples at positions ``first`` to ``stop`` (excluded, and cut at the epoch's end)."""
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
            chosen = self.windows[number]
            starts, counts = self._starts[chosen], self._counts[chosen]
            ids = np.concatenate([np.arange(at, at + many) for at, many in zip(starts, counts, strict=True)])
            if self._shuffle:
                ids = ids[permutation(len(ids), self._seed, self._epoch, 1 + number)]
            self._last = number, ids
        return self._last[1]


def epoch_order(sizes: int | Sequence[int], seed: int, epoch: int) -> Ids:
    """Ids of all samples in the order of one epoch, each exactly once; an int stands for one shard."""
    order = EpochOrder([sizes] if isinstance(sizes, int) else sizes, seed, epoch)
    return order.ids(0, len(order))


def global_batches(n: int, batch_size: int, *, drop_last: bool) -> int:
    """How many batches ``n`` samples make."""
    return n // batch_size if drop_last else -(-n // batch_size)


def rank_share(ids: Ids, rank: int, ranks: int, *, size: int = 0) -> tuple[Ids, NDArray[np.bool_]]:
    """What ``rank`` reads of a global batch ``ids``: its contiguous share, and which of it is valid.

    Padding repeats the last sample: to as few as give every rank equally many, or to ``size`` samples over all ranks.
    """
    share = -(-max(len(ids), size) // ranks)
    if share * ranks == len(ids):
        return ids[rank * share : (rank + 1) * share], np.ones(share, dtype=np.bool_)
    valid = np.arange(share * ranks) < len(ids)
    padded = np.concatenate([ids, np.repeat(ids[-1:], share * ranks - len(ids))])
    mine = slice(rank * share, (rank + 1) * share)
    return padded[mine], valid[mine]


def rank_batch(order: Ids, batch: int, batch_size: int, rank: int, ranks: int) -> tuple[Ids, NDArray[np.bool_]]:
    """What ``rank`` reads of global batch number ``batch``, which is ``order[g*B:(g+1)*B]`` whatever ``ranks`` is."""
    return rank_share(order[batch * batch_size : (batch + 1) * batch_size], rank, ranks)


def stratified_split(labels: Sequence[int], fractions: Sequence[float], seed: int) -> list[Ids]:
    """Draw one part for each of ``fractions``, and last the rest, each with the classes in proportion.

    A part has ``round(fraction * n)`` samples, shared among classes by largest remainder; every class keeps at least
    one sample for the rest. All parts are shuffled. A pure function of its arguments.
    """
    of = np.asarray(labels, dtype=np.int64)
    classes = range(int(of.max()) + 1 if len(of) else 0)
    pools = [np.flatnonzero(of == each)[permutation(int((of == each).sum()), seed, 0, each)] for each in classes]
    parts = []
    counts = np.asarray([len(pool) for pool in pools], dtype=np.int64)
    for fraction in fractions:
        taken = _quotas(counts, fraction, np.asarray([len(pool) for pool in pools]) - 1)
        parts.append([pool[:quota] for pool, quota in zip(pools, taken, strict=True)])
        pools = [pool[quota:] for pool, quota in zip(pools, taken, strict=True)]
    return [_mixed(part, seed, 1 + number) for number, part in enumerate([*parts, pools])]


def _quotas(counts: Ids, fraction: float, most: Ids) -> Ids:
    """Samples to take from each class of ``counts`` so that they sum to the rounded total, at most ``most`` of each."""
    exact = counts * fraction
    quotas = np.floor(exact).astype(np.int64)
    spare = round(float(counts.sum()) * fraction) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[: max(spare, 0)]] += 1
    allowed: Ids = np.minimum(quotas, np.maximum(most, 0))
    return allowed


def _mixed(part: list[Ids], seed: int, number: int) -> Ids:
    ids: Ids = np.concatenate([np.zeros(0, dtype=np.int64), *part])
    mixed: Ids = ids[permutation(len(ids), seed, number, 0)]
    return mixed
