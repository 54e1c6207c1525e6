"""Samples of a split as they are stored: by shard and row, without a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from expflow.data.permutation import Ids
from expflow.data.shards.index import ShardIndex, index_tar, read_index
from expflow.data.shards.manifest import ShardEntry, ShardManifest, how_to_rebuild
from expflow.data.stores import Root, ShardCache, open_root
from expflow.data.stores.signed_urls import with_query
from expflow.errors import ShardCorrupt

EncodedSample = dict[str, memoryview]
"""The encoded bytes of each field of one sample."""


@dataclass(frozen=True)
class IndexedShard:
    """A whole, verified shard while it is held.

    Attributes:
        name: The shard's file name.
        view: Its bytes, read-only.
        index: Where its samples lie in it.
    """

    name: str
    view: memoryview
    index: ShardIndex

    def values(self, row: int) -> EncodedSample:
        """The encoded bytes of each field of one sample, as views of the shard.

        Args:
            row: The sample's number in the shard, from 0.
        """
        offsets, sizes = self.index.offsets[row].tolist(), self.index.sizes[row].tolist()
        return {
            field: self.view[offset : offset + size]
            for field, offset, size in zip(self.index.fields, offsets, sizes, strict=True)
        }


class SplitShards:
    """The shards that hold the first samples of a split. Ids count from 0 through them in the manifest's order.

    Args:
        folder: The prepared data's folder, in which the manifest lies.
        manifest: The manifest.
        split: The split's name.
        samples: How many of its samples are used.
        cache: The node's cache for shards from elsewhere.
    """

    def __init__(self, folder: Path, manifest: ShardManifest, split: str, samples: int, cache: ShardCache) -> None:
        self.folder, self.manifest, self.split, self.samples, self.cache = folder, manifest, split, samples, cache
        self.shards = shards_covering(manifest.shards(split), samples)
        address = with_query(manifest.at) if manifest.at else folder
        self.root: Root = open_root(address, cache=cache)
        self.sizes = [shard.samples for shard in self.shards]
        self.sizes[-1:] = [samples - sum(self.sizes[:-1])] if self.sizes else []
        self._ends = np.cumsum(self.sizes, dtype=np.int64)

    def locate(self, ids: Ids) -> tuple[list[int], list[int]]:
        """Find the shards of samples.

        Args:
            ids: The samples' ids, (n,).

        Returns:
            The number of each sample's shard, and its row in that shard.
        """
        numbers = np.searchsorted(self._ends, ids, side="right")
        starts = self._ends - np.asarray(self.sizes, dtype=np.int64)
        return numbers.tolist(), (ids - starts[numbers]).tolist()

    @contextmanager
    def opened(self, number: int) -> Iterator[IndexedShard]:
        """Open one shard for as long as the context lasts.

        Args:
            number: The shard's number, from 0.

        Raises:
            ShardCorrupt: It is damaged. The message names it, what was expected, what was found, and how to mend it.
            DataMissing: It is not there.
            DataUnreachable: The store does not give it.
        """
        shard = self.shards[number]
        with ExitStack() as stack:
            try:
                open_shard = stack.enter_context(self.root.hold(shard))
            except ShardCorrupt as error:
                raise ShardCorrupt(f"{error}{self.how_to_mend}") from error
            yield IndexedShard(shard.name, open_shard.view, self._index(shard, open_shard.view))

    def _index(self, shard: ShardEntry, view: memoryview) -> ShardIndex:
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
        """What is added to a message about a damaged shard."""
        return f"; fetch it from {self.root.address} again" if self.manifest.at else f"; {how_to_rebuild(self.folder)}"


def shards_covering(shards: Sequence[ShardEntry], samples: int) -> list[ShardEntry]:
    """The first shards, as many as hold the first samples.

    Args:
        shards: All shards of a split, in the manifest's order.
        samples: How many samples are needed.
    """
    starts = accumulate((shard.samples for shard in shards), initial=0)
    return [shard for shard, start in zip(shards, starts, strict=False) if start < samples]
