"""Decoded samples: small splits whole, once per process; large ones a window of shards at a time.

Which of the two is used changes memory and speed only: the order comes from :mod:`expflow.data.order` alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from expflow.data.codecs import decode
from expflow.data.manifest import Manifest, Shard, how_to_rebuild
from expflow.data.order import WINDOW_SHARDS, Ids
from expflow.data.read import Sample, read_shard
from expflow.errors import ShardCorrupt

Arrays = dict[str, NDArray[Any]]
"""One array per field; the first axis counts samples."""

MEMORY_BYTES = 2**30
"""Decoded bytes that a process keeps for all its trials together."""


class Samples(Protocol):
    """Decoded samples by id."""

    def take(self, ids: Ids) -> Arrays:
        """The samples ``ids``, in that order."""


class Decoder:
    """Decodes the samples of one folder of shards with ``workers`` threads."""

    def __init__(self, root: Path, manifest: Manifest, workers: int) -> None:
        self.root, self.manifest, self.workers = root, manifest, workers

    def shard(self, shard: Shard) -> list[Sample]:
        """One shard's samples as they are stored. Raises ShardCorrupt."""
        return read_shard(self.root, shard, self.manifest.fields)

    def arrays(self, samples: Sequence[Sample]) -> Arrays:
        """``samples`` decoded. Raises ShardCorrupt, naming the sample that is not what the manifest declares."""
        decoded = list(_pool(self.workers).map(self._one, samples) if self.workers > 1 else map(self._one, samples))
        return {name: np.stack([values[name] for values in decoded]) for name in self.manifest.fields}

    def _one(self, sample: Sample) -> Arrays:
        key, members = sample
        values = {}
        for name, extension in self.manifest.fields.items():
            expected = self.manifest.spec.fields[name]
            try:
                value = decode(extension, members[name])
                if value.shape != expected.shape or str(value.dtype) != expected.dtype:
                    raise ValueError(f"expected {expected.dtype} {expected.shape}, found {value.dtype} {value.shape}")
            except (OSError, SyntaxError, ValueError) as error:
                where = f"{self.root}: sample {key}: {name}"
                raise ShardCorrupt(f"{where}: {error}; {how_to_rebuild(self.root)}") from error
            values[name] = value
        return values


_pools: dict[int, ThreadPoolExecutor] = {}


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that stay for the trials to come."""
    if workers not in _pools:
        _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="expflow-decode")
    return _pools[workers]


class InMemory:
    """All samples decoded."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def take(self, ids: Ids) -> Arrays:
        """The samples ``ids``, in that order."""
        return {name: values[ids] for name, values in self.arrays.items()}


class Streamed:
    """Keeps the encoded samples of the last few shards and decodes those asked for.

    One shard more than a window, so that a batch across two windows reads no shard twice.
    """

    def __init__(self, decoder: Decoder, shards: Sequence[Shard]) -> None:
        self._decoder, self._shards = decoder, list(shards)
        self._ends = np.asarray(list(accumulate(shard.samples for shard in shards)), dtype=np.int64)
        self._held: OrderedDict[int, list[Sample]] = OrderedDict()

    def take(self, ids: Ids) -> Arrays:
        """The samples ``ids``, in that order."""
        shards = np.searchsorted(self._ends, ids, side="right")
        return self._decoder.arrays([self._sample(int(shard), int(i)) for shard, i in zip(shards, ids, strict=True)])

    def _sample(self, number: int, sample: int) -> Sample:
        if number not in self._held:
            while len(self._held) > WINDOW_SHARDS:
                self._held.popitem(last=False)
            self._held[number] = self._decoder.shard(self._shards[number])
        self._held.move_to_end(number)
        first = int(self._ends[number]) - self._shards[number].samples
        return self._held[number][sample - first]


_kept: OrderedDict[tuple[str, str, str, int], InMemory] = OrderedDict()
_lock = threading.Lock()


def open_samples(
    root: Path, manifest: Manifest, split: str, samples: int, *, workers: int = 1, memory_bytes: int = MEMORY_BYTES
) -> Samples:
    """The first ``samples`` of ``split``, decoded in memory where they fit into ``memory_bytes``, streamed otherwise.

    What is decoded is kept for the process, so that the next trial on a warm rank starts at once; the least recently
    used goes first when the sum would exceed ``memory_bytes``.
    """
    shards = covering(manifest.shards(split), samples)
    decoder = Decoder(root, manifest, workers)
    size = sum(shard.samples for shard in shards) * _sample_bytes(manifest)
    if size > memory_bytes:
        return Streamed(decoder, shards)
    key = (str(root.resolve()), split, manifest.content, len(shards))
    with _lock:
        if key not in _kept:
            _make_room(memory_bytes - size)
            _kept[key] = InMemory(_whole(decoder, shards))
        _kept.move_to_end(key)
        return _kept[key]


def covering(shards: Sequence[Shard], samples: int) -> list[Shard]:
    """The first shards, as many as hold ``samples`` samples."""
    before = accumulate((shard.samples for shard in shards), initial=0)
    return [shard for shard, start in zip(shards, before, strict=False) if start < samples]


def forget() -> None:
    """Let go of all decoded samples of this process, and of the threads that decoded them."""
    with _lock:
        _kept.clear()
    while _pools:
        _pools.popitem()[1].shutdown()


def _whole(decoder: Decoder, shards: Sequence[Shard]) -> Arrays:
    """Decode ``shards`` one by one into one array per field."""
    parts = [decoder.arrays(decoder.shard(shard)) for shard in shards]
    return {name: np.concatenate([part[name] for part in parts]) for name in decoder.manifest.fields}


def _sample_bytes(manifest: Manifest) -> int:
    return sum(int(np.prod(each.shape)) * np.dtype(each.dtype).itemsize for each in manifest.spec.fields.values())


def _make_room(limit: int) -> None:
    """Drop the least recently used until at most ``limit`` bytes are kept."""
    while _kept and sum(values.nbytes for kept in _kept.values() for values in kept.arrays.values()) > limit:
        _kept.popitem(last=False)
