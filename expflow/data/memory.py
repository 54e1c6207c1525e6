"""Small splits, decoded once per node: a file beside the shards that every rank of every trial maps into its memory.

decoded/<split>-<key>.bin     the fields, one after the other, each an array whose first axis is the sample's id
decoded/<split>-<key>.json    where each lies, samples that could not be decoded, size and sha256 of the former
decoded/<split>-<key>.lock    whoever decodes

Where nothing can be written, a process decodes for itself and keeps that for its next trials. Which it is changes
memory and speed only: the order comes from :mod:`expflow.data.order` alone.
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
from expflow.data.manifest import Manifest, Shard, checksum
from expflow.data.order import EpochOrder
from expflow.data.stores.locks import locked
from expflow.data.stores.verified import Verified
from expflow.data.streaming.batches import Planned, Streamed
from expflow.data.streaming.buffers import ALIGNMENT, Arrays
from expflow.data.streaming.reading import Shards
from expflow.errors import ShardCorrupt

log = logging.getLogger(__name__)

MEMORY_BYTES = 2**30
"""Splits that take more than this when decoded are streamed."""

PIECE_SAMPLES = 256
"""Samples that are decoded and written at a time."""

FORMAT = 1
"""Raised when the layout of these files, or what decoding gives, changes."""

Pieces = Callable[[], Iterator[tuple[int, Arrays, dict[int, str]]]]
"""Decodes a split piece by piece: the first id, the fields, and why samples could not be decoded, by id."""


@dataclass(frozen=True)
class Whole:
    """A decoded split: one array per field, and why samples are missing, by id (their places hold zeros)."""

    arrays: Arrays
    bad: dict[int, str]


def open_whole(shards: Shards, threads: int, *, skip: bool) -> Whole:
    """All samples of ``shards``, decoded. Raises ShardCorrupt where one cannot be, unless ``skip``."""
    manifest, split = shards.manifest, shards.split
    # Whole shards: recipes that differ in `limit` then share them.
    samples = sum(shard.samples for shard in shards.shards)
    every = Shards(shards.folder, manifest, split, samples, shards.cache)
    pieces = partial(_pieces, every, threads, skip)
    whole = decoded(shards.folder, manifest, split, samples, shards.cache.verified, pieces)
    if whole.bad and not skip:
        raise ShardCorrupt(whole.bad[min(whole.bad)])
    return whole


def _pieces(shards: Shards, threads: int, skip: bool) -> Iterator[tuple[int, Arrays, dict[int, str]]]:
    manifest = shards.manifest
    plain = pipeline_for(manifest.fields, manifest.spec, None, training=False, seed=0)
    order = EpochOrder(shards.sizes, 0, 0, shuffle=False)
    bounds = ((first, min(first + PIECE_SAMPLES, shards.samples)) for first in range(0, shards.samples, PIECE_SAMPLES))
    planned = (Planned(a, b, order.ids(a, b), np.ones(b - a, dtype=np.bool_)) for a, b in bounds)
    for made in Streamed(shards, plain, threads=threads, skip=skip).batches(order, 0, planned):
        first = made.planned.first
        arrays = {name: tensor.numpy() for name, tensor in made.tensors.items()}
        yield first, arrays, {first + slot: why for slot, why in made.bad.items()}


def decoded_bytes(manifest: Manifest, samples: int) -> int | None:
    """What ``samples`` samples take when decoded; None where they differ in size."""
    fields = manifest.spec.fields.values()
    if any(each.varies or 0 in each.shape for each in fields):
        return None
    return samples * sum(math.prod(each.shape) * np.dtype(each.dtype).itemsize for each in fields)


def decoded(folder: Path, manifest: Manifest, split: str, samples: int, verified: Verified, pieces: Pieces) -> Whole:
    """The first ``samples`` samples of ``split``, whose manifest lies in ``folder``.

    Mapped from the node's file, which ``pieces`` fills if it is not there; exactly one of the processes that ask at
    once decodes. Raises what ``pieces`` raises.
    """
    plan = _plan(manifest, split, samples)
    path = folder / "decoded" / f"{split}-{checksum(plan)[:16]}.bin"
    try:
        if (found := _mapped(path, plan, verified)) is not None:
            return found
        path.parent.mkdir(exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if (found := _mapped(path, plan, verified)) is None:
                _write(path, plan, pieces, verified)
                found = _mapped(path, plan, verified)
        if found is not None:
            return found
        log.warning("%s changed while it was written; this process decodes for itself", path)
    except OSError as error:
        log.warning("%s cannot be kept (%s); this process decodes for itself", path, error.strerror or error)
    return _own(path, plan, pieces)


def _plan(manifest: Manifest, split: str, samples: int) -> dict[str, Any]:
    """What is decoded, and where each field lies: all that the file's content depends on."""
    fields, at = {}, 0
    for name, each in sorted(manifest.spec.fields.items()):
        shape = (samples, *each.shape)
        fields[name] = {"at": at, "dtype": each.dtype, "shape": list(shape)}
        at += -(-math.prod(shape) * np.dtype(each.dtype).itemsize // ALIGNMENT) * ALIGNMENT
    return {"format": FORMAT, "content": manifest.content, "split": split, "fields": fields, "bytes": at}


def _mapped(path: Path, plan: dict[str, Any], verified: Verified) -> Whole | None:
    """The file's arrays, read-only; None where it is not there or not what its description says."""
    try:
        said = json.loads(path.with_suffix(".json").read_bytes())
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    try:
        if said.get("plan") != plan or verified.problem(handle, _as_shard(path, said)):
            return None
        area = mmap.mmap(handle, plan["bytes"], access=mmap.ACCESS_READ) if plan["bytes"] else b""
    finally:
        os.close(handle)
    arrays = {
        name: np.frombuffer(area, each["dtype"], math.prod(each["shape"]), each["at"]).reshape(each["shape"])
        for name, each in plan["fields"].items()
    }
    return Whole(arrays, {int(id): why for id, why in said["bad"].items()})


def _as_shard(path: Path, said: dict[str, Any]) -> Shard:
    return Shard(path.name, 0, said["plan"]["bytes"], said["sha256"])


def _write(path: Path, plan: dict[str, Any], pieces: Pieces, verified: Verified) -> None:
    """Decode into the file; the caller holds its lock, so any unfinished one of its name is a dead process's.

    Written rather than mapped: a full disk is then an error, and not the end of the process.
    """
    for left in path.parent.glob(f".{path.stem}.*"):
        left.unlink(missing_ok=True)
    building, bad = path.with_name(f".{path.stem}.{os.getpid()}.bin"), dict[int, str]()
    said = path.with_suffix(".json")
    said.unlink(missing_ok=True)
    try:
        with building.open("w+b", buffering=0) as file:
            if plan["bytes"]:
                os.posix_fallocate(file.fileno(), 0, plan["bytes"])
            for first, arrays, failed in pieces():
                bad |= failed
                for name, values in arrays.items():
                    each = plan["fields"][name]
                    row = math.prod(each["shape"][1:]) * np.dtype(each["dtype"]).itemsize
                    _write_at(file.fileno(), values, each["at"] + first * row)
            os.fsync(file.fileno())
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
            building.rename(path)
            description = {"plan": plan, "sha256": found, "bad": bad}
            verified.mark(file.fileno(), _as_shard(path, description))
        beside = path.with_name(f".{path.stem}.{os.getpid()}.json")
        beside.write_text(json.dumps(description), encoding="utf-8")
        beside.rename(said)
    finally:
        building.unlink(missing_ok=True)


def _write_at(handle: int, values: NDArray[Any], at: int) -> None:
    content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    while content:
        written = os.pwrite(handle, content, at)
        content, at = content[written:], at + written


_kept: OrderedDict[str, Whole] = OrderedDict()
_lock = threading.Lock()


def _own(path: Path, plan: dict[str, Any], pieces: Pieces) -> Whole:
    """Decoded by this process for itself, and kept for its next trials; the least recently used makes room."""
    with _lock:
        if str(path) not in _kept:
            while _kept and plan["bytes"] + sum(_bytes(each) for each in _kept.values()) > MEMORY_BYTES:
                _kept.popitem(last=False)
            arrays = {name: np.empty(each["shape"], each["dtype"]) for name, each in plan["fields"].items()}
            bad: dict[int, str] = {}
            for first, values, failed in pieces():
                bad |= failed
                for name, array in arrays.items():
                    array[first : first + len(values[name])] = values[name]
            _kept[str(path)] = Whole(arrays, bad)
        _kept.move_to_end(str(path))
        return _kept[str(path)]


def _bytes(whole: Whole) -> int:
    return sum(values.nbytes for values in whole.arrays.values())


def forget() -> None:
    """Let go of what this process decoded for itself."""
    with _lock:
        _kept.clear()
