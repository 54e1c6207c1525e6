"""Small splits, decoded once per node: a file beside the shards that every rank of every trial maps into its memory.

decoded/<split>-<key>.bin     the fields, one after the other, each an array whose first axis is the sample's id
decoded/<split>-<key>.json    where each lies, samples that could not be decoded, size and sha256 of the former
decoded/<split>-<key>.lock    held by the process that decodes

Where nothing can be written, a process decodes for itself and keeps that for its next trials. Which of the two happens
changes memory and speed only: the order comes from :mod:`expflow.data.streaming.epoch_order` alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.augment import pipeline_for
from expflow.data.shards.manifest import ShardEntry, ShardManifest, checksum
from expflow.data.stores.locks import exclusive_lock
from expflow.data.stores.verified_files import VerifiedFiles
from expflow.data.streaming.batch_buffers import ALIGNMENT, Arrays
from expflow.data.streaming.batch_source import PlannedBatch
from expflow.data.streaming.epoch_order import EpochOrder
from expflow.data.streaming.sample_reader import SplitShards
from expflow.data.streaming.streamed_batches import StreamedBatches
from expflow.errors import ShardCorrupt

log = logging.getLogger(__name__)

MAX_DECODED_BYTES = 2**30
"""Splits that take more than this when decoded are streamed."""

PIECE_SAMPLES = 256
"""Samples that are decoded and written at a time."""

FORMAT = 1
"""Raised when the layout of these files, or what decoding gives, changes."""

PieceDecoder = Callable[[], Iterator[tuple[int, Arrays, dict[int, str]]]]
"""Decodes a split piece by piece: the first id, the fields, and why samples could not be decoded, by id."""


@dataclass(frozen=True)
class DecodedSplit:
    """A decoded split.

    Attributes:
        arrays: The fields; the first axis is the sample's id.
        bad: Why samples could not be decoded, by id; their places hold zeros.
    """

    arrays: Arrays
    bad: dict[int, str]


def open_decoded_split(shards: SplitShards, threads: int, *, skip: bool) -> DecodedSplit:
    """All samples of the shards, decoded: from the node's file, which is made where it is not there.

    Args:
        shards: The shards of the split.
        threads: How many threads decode.
        skip: Whether samples that cannot be decoded are left out instead of raising.

    Raises:
        ShardCorrupt: A sample cannot be decoded, and ``skip`` is False.
    """
    manifest, split = shards.manifest, shards.split
    # Whole shards: recipes that differ in `limit` then share them.
    samples = sum(shard.samples for shard in shards.shards)
    whole_shards = SplitShards(shards.folder, manifest, split, samples, shards.cache)
    pieces = partial(_decode_pieces, whole_shards, threads, skip)
    decoded = load_or_decode(shards.folder, manifest, split, samples, shards.cache.verified, pieces)
    if decoded.bad and not skip:
        raise ShardCorrupt(decoded.bad[min(decoded.bad)])
    return decoded


def _decode_pieces(shards: SplitShards, threads: int, skip: bool) -> Iterator[tuple[int, Arrays, dict[int, str]]]:
    manifest = shards.manifest
    pipeline = pipeline_for(manifest.fields, manifest.spec, None, training=False, seed=0)
    order = EpochOrder(shards.sizes, 0, 0, shuffle=False)
    bounds = ((first, min(first + PIECE_SAMPLES, shards.samples)) for first in range(0, shards.samples, PIECE_SAMPLES))
    plans = (
        PlannedBatch(
            first, stop, order.draws(first, stop), order.draws(first, stop), np.ones(stop - first, dtype=np.bool_)
        )
        for first, stop in bounds
    )
    for batch in StreamedBatches(shards, pipeline, threads=threads, skip=skip).batches(order, 0, plans):
        first = batch.plan.first
        arrays = {name: tensor.numpy() for name, tensor in batch.tensors.items()}
        yield first, arrays, {first + slot: why for slot, why in batch.bad.items()}


def decoded_bytes(manifest: ShardManifest, samples: int) -> int | None:
    """How many bytes samples take when they are decoded; None where they differ in size.

    Args:
        manifest: Describes the fields.
        samples: How many samples.
    """
    fields = manifest.spec.fields.values()
    if any(field.varies or 0 in field.shape for field in fields):
        return None
    return samples * sum(math.prod(field.shape) * np.dtype(field.dtype).itemsize for field in fields)


def load_or_decode(
    folder: Path, manifest: ShardManifest, split: str, samples: int, verified: VerifiedFiles, pieces: PieceDecoder
) -> DecodedSplit:
    """Map a decoded split from the node's file, which is written first where it is not there.

    Exactly one of the processes that ask at once decodes. What ``pieces`` raises is passed on.

    Args:
        folder: The prepared data's folder, in which the manifest lies.
        manifest: Describes the fields.
        split: The split's name.
        samples: How many of its samples are decoded.
        verified: Records that the file was verified.
        pieces: Decodes the split.
    """
    layout = _layout(manifest, split, samples)
    path = folder / "decoded" / f"{split}-{checksum(layout)[:16]}.bin"
    try:
        if (decoded := _map_file(path, layout, verified)) is not None:
            return decoded
        path.parent.mkdir(exist_ok=True)
        with exclusive_lock(path.with_suffix(".lock")):
            if (decoded := _map_file(path, layout, verified)) is None:
                _write_file(path, layout, pieces, verified)
                decoded = _map_file(path, layout, verified)
        if decoded is not None:
            return decoded
        log.warning("%s changed while it was written; this process decodes for itself", path)
    except OSError as error:
        log.warning("%s cannot be kept (%s); this process decodes for itself", path, error.strerror or error)
    return _decode_in_process(path, layout, pieces)


def _layout(manifest: ShardManifest, split: str, samples: int) -> dict[str, Any]:
    """What is decoded, and where each field lies: all that the file's content depends on."""
    fields, offset = {}, 0
    for name, field in sorted(manifest.spec.fields.items()):
        shape = (samples, *field.shape)
        fields[name] = {"at": offset, "dtype": field.dtype, "shape": list(shape)}
        offset += -(-math.prod(shape) * np.dtype(field.dtype).itemsize // ALIGNMENT) * ALIGNMENT
    return {"format": FORMAT, "content": manifest.content, "split": split, "fields": fields, "bytes": offset}


def _map_file(path: Path, layout: dict[str, Any], verified: VerifiedFiles) -> DecodedSplit | None:
    """The file's arrays, read-only; None where it is not there or not what its description says."""
    try:
        description = json.loads(path.with_suffix(".json").read_bytes())
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    try:
        if description.get("plan") != layout or verified.problem(handle, _as_shard(path, description)):
            return None
        area = mmap.mmap(handle, layout["bytes"], access=mmap.ACCESS_READ) if layout["bytes"] else b""
    finally:
        os.close(handle)
    arrays = {
        name: np.frombuffer(area, field["dtype"], math.prod(field["shape"]), field["at"]).reshape(field["shape"])
        for name, field in layout["fields"].items()
    }
    return DecodedSplit(arrays, {int(id): why for id, why in description["bad"].items()})


def _as_shard(path: Path, description: dict[str, Any]) -> ShardEntry:
    return ShardEntry(path.name, 0, description["plan"]["bytes"], description["sha256"])


def _write_file(path: Path, layout: dict[str, Any], pieces: PieceDecoder, verified: VerifiedFiles) -> None:
    """Decode into the file; the caller holds its lock, so any unfinished one of its name is a dead process's.

    Written rather than mapped: a full disk is then an error, and not the end of the process.
    """
    for leftover in path.parent.glob(f".{path.stem}.*"):
        leftover.unlink(missing_ok=True)
    unfinished, bad = path.with_name(f".{path.stem}.{os.getpid()}.bin"), dict[int, str]()
    description_path = path.with_suffix(".json")
    description_path.unlink(missing_ok=True)
    try:
        with unfinished.open("w+b", buffering=0) as file:
            if layout["bytes"]:
                os.posix_fallocate(file.fileno(), 0, layout["bytes"])
            for first, arrays, failed in pieces():
                bad |= failed
                for name, values in arrays.items():
                    field = layout["fields"][name]
                    row_bytes = math.prod(field["shape"][1:]) * np.dtype(field["dtype"]).itemsize
                    _write_at(file.fileno(), values, field["at"] + first * row_bytes)
            os.fsync(file.fileno())
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            unfinished.rename(path)
            description = {"plan": layout, "sha256": sha256, "bad": bad}
            verified.mark(file.fileno(), _as_shard(path, description))
        beside = path.with_name(f".{path.stem}.{os.getpid()}.json")
        beside.write_text(json.dumps(description), encoding="utf-8")
        beside.rename(description_path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_at(handle: int, values: NDArray[Any], offset: int) -> None:
    content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    while content:
        written = os.pwrite(handle, content, offset)
        content, offset = content[written:], offset + written


_process_cache: OrderedDict[str, DecodedSplit] = OrderedDict()
"""What this process decoded for itself, by path, the least recently used first."""
_lock = threading.Lock()


def _decode_in_process(path: Path, layout: dict[str, Any], pieces: PieceDecoder) -> DecodedSplit:
    """Decode for this process alone, and keep that for its next trials; the least recently used is dropped for it."""
    with _lock:
        if str(path) not in _process_cache:
            while _process_cache and layout["bytes"] + _cached_bytes() > MAX_DECODED_BYTES:
                _process_cache.popitem(last=False)
            arrays = {name: np.empty(field["shape"], field["dtype"]) for name, field in layout["fields"].items()}
            bad: dict[int, str] = {}
            for first, values, failed in pieces():
                bad |= failed
                for name, array in arrays.items():
                    array[first : first + len(values[name])] = values[name]
            _process_cache[str(path)] = DecodedSplit(arrays, bad)
        _process_cache.move_to_end(str(path))
        return _process_cache[str(path)]


def _cached_bytes() -> int:
    return sum(values.nbytes for decoded in _process_cache.values() for values in decoded.arrays.values())
