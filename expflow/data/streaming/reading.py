"""Samples of a split as they are stored: by shard and row, without a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from expflow.data.index import Index, index_tar, read_index
from expflow.data.manifest import Manifest, Shard, how_to_rebuild
from expflow.data.order import Ids
from expflow.data.stores import Root, ShardCache, open_root
from expflow.data.stores.signed import with_query
from expflow.errors import ShardCorrupt

Values = dict[str, memoryview]
"""The encoded bytes of each field of one sample."""


@dataclass(frozen=True)
class Opened:
    """A whole, verified shard while it is held, and where its samples lie in it."""

    name: str
    view: memoryview
    index: Index

    def values(self, row: int) -> Values:
        """One sample's fields."""
        offsets, sizes = self.index.offsets[row].tolist(), self.index.sizes[row].tolist()
        return {
            field: self.view[at : at + size] for field, at, size in zip(self.index.fields, offsets, sizes, strict=True)
        }


class Shards:
    """The first ``samples`` samples of ``split``; ``folder`` holds the manifest, and ``cache`` what belongs to a node.

    Their ids count from 0 through the shards in the manifest's order.
    """

    def __init__(self, folder: Path, manifest: Manifest, split: str, samples: int, cache: ShardCache) -> None:
        self.folder, self.manifest, self.split, self.samples, self.cache = folder, manifest, split, samples, cache
        self.shards = covering(manifest.shards(split), samples)
        where = with_query(folder, manifest.at) if manifest.at else folder
        self.root: Root = open_root(where, cache=cache)
        self.sizes = [shard.samples for shard in self.shards]
        self.sizes[-1:] = [samples - sum(self.sizes[:-1])] if self.sizes else []
        self._ends = np.cumsum(self.sizes, dtype=np.int64)

    def locate(self, ids: Ids) -> tuple[list[int], list[int]]:
        """The numbers of the shards that hold samples, and their rows in them."""
        numbers = np.searchsorted(self._ends, ids, side="right")
        starts = self._ends - np.asarray(self.sizes, dtype=np.int64)
        return numbers.tolist(), (ids - starts[numbers]).tolist()

    @contextmanager
    def opened(self, number: int) -> Iterator[Opened]:
        """Shard ``number``, for as long as the context lasts.

        Raises ShardCorrupt, naming it, what was expected and what was found; DataMissing and DataUnreachable.
        """
        shard = self.shards[number]
        with ExitStack() as stack:
            try:
                held = stack.enter_context(self.root.hold(shard))
            except ShardCorrupt as error:
                raise ShardCorrupt(f"{error}{self.how_to_mend}") from error
            yield Opened(shard.name, held.view, self._index(shard, held.view))

    def _index(self, shard: Shard, view: memoryview) -> Index:
        """From the sidecar; from the tar itself where an older version wrote the shard."""
        fields, foreign = self.manifest.fields, bool(self.manifest.at)
        if shard.index is not None:
            return read_index(self.folder, shard, fields, extras=foreign)
        try:
            index = index_tar(view, fields, extras=foreign)
            if len(index) != shard.samples:
                raise ValueError(f"expected {shard.samples} samples, found {len(index)}")
        except ValueError as error:
            raise ShardCorrupt(f"{self.folder / shard.name}: {error}{self.how_to_mend}") from error
        return index

    @property
    def how_to_mend(self) -> str:
        """What follows a message about a damaged shard."""
        return f"; fetch it from {self.root.address} again" if self.manifest.at else f"; {how_to_rebuild(self.folder)}"


def covering(shards: Sequence[Shard], samples: int) -> list[Shard]:
    """The first shards, as many as hold ``samples`` samples."""
    before = accumulate((shard.samples for shard in shards), initial=0)
    return [shard for shard, start in zip(shards, before, strict=False) if start < samples]


def read_samples(folder: Path, manifest: Manifest, split: str) -> Iterator[tuple[str, Values]]:
    """Key and encoded fields of every sample of ``split`` in the shards' order, decoding nothing.

    The values are views of the shard: whoever keeps them copies them. Raises ShardCorrupt.
    """
    shards = Shards(folder, manifest, split, manifest.samples(split), ShardCache(folder.parent))
    for number in range(len(shards.shards)):
        with shards.opened(number) as opened:
            for row, key in enumerate(opened.index.keys):
                yield key, opened.values(row)
