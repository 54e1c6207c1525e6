"""Which samples each shard holds, planned before any shard is written, so that a killed build goes on.

The plan depends on the list of files and on the description of the source alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.data.kinds import kind_of
from expflow.data.shards.manifest import checksum
from expflow.data.sources.base import SampleRef, SampleSource

SHARD_SAMPLES = 10_000
SHARD_BYTES = 64 * 2**20
HEADERS = 1536
"""Bytes that a sample's tar headers, label and padding take beside its image."""

RECORD_FORMAT = 1
"""Raised when a record of an older version must not be taken for one of this (:mod:`.finished_shard`)."""


@dataclass(frozen=True)
class PlannedShard:
    """One shard that is to be written.

    Attributes:
        name: its file's stem.
        split: the split that it belongs to.
        first: position of its first sample in the split.
        items: its samples.
        plan: hash of everything that its bytes depend on.
    """

    name: str
    split: str
    first: int
    items: Sequence[SampleRef]
    plan: str


def plan_shards(
    source: SampleSource, description: Mapping[str, Any], max_side: int | None = None
) -> list[PlannedShard]:
    """Cut the source's splits into shards of at most SHARD_SAMPLES samples and about SHARD_BYTES bytes.

    Args:
        source: the source, whose splits are listed.
        description: what the shards' bytes depend on beside the files.
        max_side: longest side of a stored image, in pixels; None where images are not shrunk.
    """
    pixels = sum(kind_of(field).stored_bytes(field) for field in source.shapes.values())
    planned = []
    for split, items in source.splits.items():
        sizes = [pixels or _expected_bytes(item.size, max_side) for item in items]
        for number, (first, end) in enumerate(_cut(sizes)):
            part = items[first:end]
            plan = _fingerprint(description, split, first, part)
            planned.append(PlannedShard(f"{split}-{number:06d}", split, first, part, plan))
    return planned


def _expected_bytes(size: int, max_side: int | None) -> int:
    return size if max_side is None else min(size, max_side * max_side // 2)


def _cut(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First position and end of each shard."""
    first, gathered = 0, 0
    for position, size in enumerate(sizes):
        gathered += size + HEADERS
        if position + 1 - first >= SHARD_SAMPLES or gathered >= SHARD_BYTES:
            yield first, position + 1
            first, gathered = position + 1, 0
    if first < len(sizes):
        yield first, len(sizes)


def _fingerprint(description: Mapping[str, Any], split: str, first: int, items: Sequence[SampleRef]) -> str:
    digest = hashlib.sha256(checksum({**description, "record": RECORD_FORMAT, "split": split, "first": first}).encode())
    for item in items:
        line = f"{item.name}\0{item.label}\0{item.size}\0{item.mtime_ns}\0{item.archive}\0{item.offset}\0"
        line += "".join(f"{name}\0{size}\0{mtime_ns}\0" for name, size, mtime_ns in item.beside)
        line += "".join(f"{value!r}\0" for value in item.values)
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
