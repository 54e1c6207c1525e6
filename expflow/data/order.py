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


def epoch_order(sizes: int | Sequence[int], seed: int, epoch: int) -> Ids:
    """Ids of all samples in the order of one epoch, each exactly once.

    ``sizes`` are the samples of each shard, whose ids are consecutive; an int stands for one shard. Shards are
    shuffled, then samples within windows of WINDOW_SHARDS shards: up to that many it is one full permutation.
    Ranks, workers and batch size have no part in it.
    """
    counts = np.asarray([sizes] if isinstance(sizes, int) else sizes, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    shards = permutation(len(counts), seed, epoch, 0)
    windows = [np.zeros(0, dtype=np.int64)]
    for number, first in enumerate(range(0, len(shards), WINDOW_SHARDS)):
        chosen = shards[first : first + WINDOW_SHARDS]
        ids = np.concatenate([np.arange(starts[each], starts[each] + counts[each]) for each in chosen])
        windows.append(ids[permutation(len(ids), seed, epoch, 1 + number)])
    return np.concatenate(windows)


def global_batches(n: int, batch_size: int, *, drop_last: bool) -> int:
    """How many batches ``n`` samples make."""
    return n // batch_size if drop_last else -(-n // batch_size)


def rank_batch(order: Ids, batch: int, batch_size: int, rank: int, ranks: int) -> tuple[Ids, NDArray[np.bool_]]:
    """What ``rank`` reads of global batch number ``batch``: ids, and which of them are valid.

    Global batch g is ``order[g*B:(g+1)*B]`` whatever the number of ranks; each rank takes its contiguous share. Only
    a last, short batch can need padding: by repeats of its last sample, to as few as give every rank equally many.
    """
    ids = order[batch * batch_size : (batch + 1) * batch_size]
    share = -(-len(ids) // ranks)
    valid = np.arange(share * ranks) < len(ids)
    padded = np.concatenate([ids, np.repeat(ids[-1:], share * ranks - len(ids))])
    mine = slice(rank * share, (rank + 1) * share)
    return padded[mine], valid[mine]


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
