"""All samples of a split as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from expflow.data.shards.manifest import ShardManifest
from expflow.data.stores import ShardCache
from expflow.data.streaming.sample_reader import EncodedSample, SplitShards


def read_samples(folder: Path, manifest: ShardManifest, split: str) -> Iterator[tuple[str, EncodedSample]]:
    """Key and encoded fields of every sample of a split in the shards' order; views of a shard while it is open."""
    shards = SplitShards(folder, manifest, split, manifest.samples(split), ShardCache(folder.parent))
    for number in range(len(shards.shards)):
        with shards.opened(number) as shard:
            for row, key in enumerate(shard.index.keys):
                yield key, shard.values(row)
