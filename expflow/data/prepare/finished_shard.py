"""Writing one planned shard, and the record beside it with which the next run of a killed build finds it.

That run checks what the record says, and writes only what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.data.dataspec import FieldSpec
from expflow.data.kinds import encode, kind_of
from expflow.data.prepare.shard_plan import PlannedShard
from expflow.data.shards.files import size_and_sha256, write_atomically
from expflow.data.shards.manifest import ShardEntry, Sidecar, checksum
from expflow.data.shards.statistics import SampleCounts
from expflow.data.shards.writer import ShardWriter, sample_key
from expflow.data.sources.base import BadSample, ReadSample, StoredImage


@dataclass(frozen=True)
class FinishedShard:
    """What became of a planned shard.

    Attributes:
        plan: hash of everything that its bytes depend on.
        shard: its entry for the manifest; None where none of its samples could be read.
        counts: what was counted over its samples.
        digests: the sha256 of each sample's bytes, concatenated, where images are kept as files; empty otherwise.
        sent: whether it lies at the address that the shards are sent to.
    """

    plan: str
    shard: ShardEntry | None
    counts: SampleCounts
    digests: bytes = b""
    sent: bool = False


def write_planned_shard(
    read: ReadSample,
    fields: Mapping[str, str],
    shapes: Mapping[str, FieldSpec],
    planned: PlannedShard,
    folder: Path,
    on_sample: Callable[[], None],
) -> FinishedShard:
    """Write one shard with its index and its record. Samples that cannot be read are left out and counted.

    Args:
        read: reads a sample's values.
        fields: maps each field to its extension.
        shapes: maps each field to how it is stored.
        planned: the shard.
        folder: the hidden folder of the build.
        on_sample: called after each sample.
    """
    writer, counts, digests = ShardWriter(fields), SampleCounts(), []
    for position, item in enumerate(planned.items):
        try:
            values = read(item)
        except BadSample as error:
            counts.bad.append((item.name, str(error)))
        else:
            members = {field: encode(extension, values[field]) for field, extension in fields.items()}
            writer.add(sample_key(planned.first + position, item.name), members)
            for field in fields:
                kind_of(shapes[field]).count(counts, planned.split, values[field])
            if any(isinstance(value, StoredImage) for value in values.values()):
                digests.append(_digest(members))
        on_sample()
    shard = writer.close(folder / f"{planned.name}.tar") if writer.samples else None
    counts.bytes = shard.bytes if shard else 0
    finished = FinishedShard(planned.plan, shard, counts, b"".join(digests))
    write_record(folder, planned, finished)
    return finished


def _digest(members: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for field in sorted(members):
        digest.update(f"{field}\0{len(members[field])}\0".encode() + members[field])
    return digest.digest()


def write_record(folder: Path, planned: PlannedShard, finished: FinishedShard) -> None:
    """Write the record of a finished shard. It is written after the shard's files, and appears whole.

    Args:
        folder: the hidden folder of the build.
        planned: the shard as it was planned.
        finished: what became of it.
    """
    data = {
        "plan": finished.plan,
        "shard": _shard_to_json(finished.shard) if finished.shard else None,
        "counts": finished.counts.to_json(),
        "digests": base64.b64encode(finished.digests).decode(),
        "sent": finished.sent,
    }
    write_atomically(folder / f"{planned.name}.json", json.dumps({**data, "sha256": checksum(data)}).encode())


def _shard_to_json(shard: ShardEntry) -> dict[str, Any]:
    return {**vars(shard), "index": vars(shard.index) if shard.index else None}


def find_finished_shard(folder: Path, planned: PlannedShard, *, index_only: bool = False) -> FinishedShard | None:
    """Return what an earlier run made of a planned shard.

    Args:
        folder: the hidden folder of the build.
        planned: the shard.
        index_only: whether only the index lies in ``folder``; the shard's own state is then part of its plan.

    Returns:
        None where it is not there, is of other files, or is damaged.
    """
    try:
        data = json.loads((folder / f"{planned.name}.json").read_bytes())
        if data.pop("sha256") != checksum(data) or data["plan"] != planned.plan:
            return None
        shard = ShardEntry(**{**data["shard"], "index": Sidecar(**data["shard"]["index"])}) if data["shard"] else None
        finished = FinishedShard(
            data["plan"], shard, SampleCounts.from_json(data["counts"]), base64.b64decode(data["digests"]), data["sent"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    usable = (finished.sent and finished.digests) or shard is None or _is_intact(folder, shard, index_only)
    return finished if usable else None


def _is_intact(folder: Path, shard: ShardEntry, index_only: bool) -> bool:
    """Whether the files of ``shard`` are what was written."""
    files = (shard.index,) if index_only else (shard, shard.index)
    return all(file is not None and _sha256(folder / file.name) == file.sha256 for file in files)


def _sha256(path: Path) -> str:
    """The hash of a file; "" where it cannot be read."""
    try:
        return size_and_sha256(path)[1]
    except OSError:
        return ""
