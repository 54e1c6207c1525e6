"""The samples of a shard, read without the loader."""

from collections.abc import Mapping
from pathlib import Path

from expflow.data.shards.index import index_tar
from expflow.data.shards.manifest import ShardEntry


def shard_samples(root: Path, shard: ShardEntry, fields: Mapping[str, str]) -> list[tuple[str, dict[str, bytes]]]:
    """Key and encoded bytes of each field, in order."""
    content = (root / shard.name).read_bytes()
    index = index_tar(content, fields)
    rows = zip(index.keys, index.offsets.tolist(), index.sizes.tolist(), strict=True)
    return [
        (key, {field: content[at : at + size] for field, at, size in zip(fields, offsets, sizes, strict=True)})
        for key, offsets, sizes in rows
    ]
