"""What a build is made of: shards that are planned before any is written, so that a killed build goes on.

Which samples a shard holds depends on the list of files alone. A shard that is finished has a record beside it; the
next run of the same build finds it, checks it, and writes only what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expflow.data import shards
from expflow.data.codecs import encode
from expflow.data.manifest import Shard, Sidecar, checksum
from expflow.data.shards import ShardWriter, sample_key
from expflow.data.sources.base import BadSample, Encoded, Item, Read, Source
from expflow.data.statistics import Counts, histogram_of

HEADERS = 1536
"""Bytes that a sample's tar headers, label and padding take beside its image."""

RECORD = 1
"""Raised when a record of an older version must not be taken for one of this."""


@dataclass(frozen=True)
class Planned:
    """One shard to be: the ``items`` of ``split`` from position ``first``. ``plan`` names what it is made from."""

    name: str
    split: str
    first: int
    items: Sequence[Item]
    plan: str


@dataclass(frozen=True)
class Part:
    """One shard that is finished; ``shard`` is None where none of its samples could be read.

    ``digests`` is the sha256 of each sample's bytes, one behind the other, where they are kept as files. ``sent``: it
    is in its remote place.
    """

    plan: str
    shard: Shard | None
    counts: Counts
    digests: bytes = b""
    sent: bool = False


def plan_shards(source: Source, recipe: Mapping[str, Any], max_side: int | None = None) -> list[Planned]:
    """Cut the source's splits into shards of at most SHARD_SAMPLES samples and about SHARD_BYTES bytes.

    ``recipe`` is what, beside the files, the bytes depend on.
    """
    height, width = source.shapes["image"].shape[1:]
    pixels = height * width * source.shapes["image"].shape[0]
    planned = []
    for split, items in source.splits.items():
        sizes = [pixels or _expected(item.size, max_side) for item in items]
        for number, (first, end) in enumerate(_cut(sizes)):
            held = items[first:end]
            planned.append(
                Planned(f"{split}-{number:06d}", split, first, held, _fingerprint(recipe, split, first, held))
            )
    return planned


def _expected(size: int, max_side: int | None) -> int:
    return size if max_side is None else min(size, max_side * max_side // 2)


def _cut(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    first, gathered = 0, 0
    for position, size in enumerate(sizes):
        gathered += size + HEADERS
        if position + 1 - first >= shards.SHARD_SAMPLES or gathered >= shards.SHARD_BYTES:
            yield first, position + 1
            first, gathered = position + 1, 0
    if first < len(sizes):
        yield first, len(sizes)


def _fingerprint(recipe: Mapping[str, Any], split: str, first: int, items: Sequence[Item]) -> str:
    digest = hashlib.sha256(checksum({**recipe, "record": RECORD, "split": split, "first": first}).encode())
    for each in items:
        said = f"{each.name}\0{each.label}\0{each.size}\0{each.mtime_ns}\0{each.archive}\0{each.offset}\0"
        digest.update(said.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write_part(read: Read, fields: Mapping[str, str], planned: Planned, folder: Path, step: Any) -> Part:
    """Write one shard into ``folder``, with its index and its record; ``step()`` is called after each sample."""
    writer, counts, digests = ShardWriter(fields), Counts(), []
    for position, item in enumerate(planned.items):
        try:
            values = read(item)
        except BadSample as error:
            counts.bad.append((item.name, str(error)))
        else:
            members = _members(values, fields)
            writer.add(sample_key(planned.first + position, item.name), members)
            _count(counts, planned.split, values)
            if isinstance(values["image"], Encoded):
                digests.append(_digest(members))
        step()
    shard = writer.close(folder / f"{planned.name}.tar") if writer.samples else None
    counts.bytes = shard.bytes if shard else 0
    part = Part(planned.plan, shard, counts, b"".join(digests))
    write_record(folder, planned, part)
    return part


def _members(values: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, bytes]:
    return {
        field: values[field].content if isinstance(values[field], Encoded) else encode(extension, values[field])
        for field, extension in fields.items()
    }


def _digest(members: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for field in sorted(members):
        digest.update(f"{field}\0{len(members[field])}\0".encode() + members[field])
    return digest.digest()


def _count(counts: Counts, split: str, values: Mapping[str, Any]) -> None:
    image = values["image"]
    if not isinstance(image, Encoded):
        mode = "L" if image.shape[2] == 1 else "RGB"
        image = Encoded(b"", histogram_of(np.asarray(image)), image.shape[1], image.shape[0], f"pixels {mode}")
    counts.image(split, int(values["label"]), image.histogram, image.width, image.height, image.kind, anew=image.anew)


def write_record(folder: Path, planned: Planned, part: Part) -> None:
    """Say that ``part`` is finished. Written last, and appears whole."""
    data = {
        "plan": part.plan,
        "shard": _plain(part.shard) if part.shard else None,
        "counts": part.counts.to_json(),
        "digests": base64.b64encode(part.digests).decode(),
        "sent": part.sent,
    }
    shards.write_whole(folder / f"{planned.name}.json", json.dumps({**data, "sha256": checksum(data)}).encode())


def _plain(shard: Shard) -> dict[str, Any]:
    return {**vars(shard), "index": vars(shard.index) if shard.index else None}


def find_part(folder: Path, planned: Planned, *, elsewhere: bool = False) -> Part | None:
    """The finished part of ``planned``; None where it is not there, is of other files, or is damaged.

    ``elsewhere``: only the index lies in ``folder``; the shard's state is part of its plan.
    """
    try:
        data = json.loads((folder / f"{planned.name}.json").read_bytes())
        if data.pop("sha256") != checksum(data) or data["plan"] != planned.plan:
            return None
        shard = Shard(**{**data["shard"], "index": Sidecar(**data["shard"]["index"])}) if data["shard"] else None
        part = Part(
            data["plan"], shard, Counts.from_json(data["counts"]), base64.b64decode(data["digests"]), data["sent"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return part if (part.sent and part.digests) or shard is None or _is_there(folder, shard, elsewhere) else None


def _is_there(folder: Path, shard: Shard, elsewhere: bool) -> bool:
    """Whether the files of ``shard`` are what was written."""
    files = (shard.index,) if elsewhere else (shard, shard.index)
    return all(each is not None and _sha256(folder / each.name) == each.sha256 for each in files)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
