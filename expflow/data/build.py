"""Preparing data: a source becomes shards and a manifest, once, in a folder named by its content.

A build happens in a hidden folder beside the final one, under a lock; its files are fsynced, the manifest is written
last, and one rename makes it visible. A killed build leaves only the hidden folder, which the next one removes. A
process that finds the data built imports neither numpy nor torch.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.data.dataspec import DataSpec
from expflow.data.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    Shard,
    checksum,
    how_to_rebuild,
    read_manifest,
    write_manifest,
)
from expflow.data.read import missized
from expflow.data.sources.listing import list_images
from expflow.data.specs import Source as SourceSpec
from expflow.errors import DataInvalid, DataMissing, ShardCorrupt, StorageUnwritable
from expflow.registry import load_dotted

if TYPE_CHECKING:
    from expflow.data.sources.base import Source
    from expflow.data.statistics import Statistics

OnProgress = Callable[[int, int], None]
"""Called with the samples that are done and those there are."""

MOST_NAMED = 20
"""Bad images that an error names; the rest are counted."""


@dataclass(frozen=True)
class Prepared:
    """Data that are ready: the folder of shards, its manifest, what a model needs to know, and the data key.

    ``spec`` is the manifest's with the recipe's ``limit`` applied to ``samples``.
    """

    root: Path
    manifest: Manifest
    spec: DataSpec
    key: str


def data_key(spec: SourceSpec) -> str:
    """Short hash of what the recipe says about the samples: no path, no batch size; the trial's id contains it."""
    return checksum(spec.description())[:12]


def prepare(
    spec: SourceSpec,
    *,
    cache: Path,
    folder: Path | None = None,
    site_path: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """The shards of ``spec`` below ``cache``: found, or built by exactly one of the processes that ask at once.

    ``folder`` is where relative paths start (the YAML's folder), ``site_path`` where the site file says this source
    lies. Raises DataMissing when the source's files are not there, DataInvalid when they cannot be used (all of them
    are named) and ShardCorrupt when what was built before is damaged.
    """
    origin = spec.origin(folder, site_path)
    root = _root(spec, cache, origin)
    manifest = _find(root)
    if manifest is None:
        try:
            manifest = _build_once(spec, origin, root, on_progress or (lambda done, total: None))
        except OSError as error:
            raise StorageUnwritable(f"cannot build the shards of {spec.name} in {cache}: {error}") from error
    return Prepared(root, manifest, limited(manifest.spec, spec.limit), data_key(spec))


def root_of(spec: SourceSpec, *, cache: Path, folder: Path | None = None, site_path: Path | None = None) -> Path:
    """Where :func:`prepare` finds or builds the shards of ``spec``. Builds nothing; raises as :func:`prepare` does."""
    return _root(spec, cache, spec.origin(folder, site_path))


def limited(spec: DataSpec, limit: int | None) -> DataSpec:
    """``spec`` with at most ``limit`` training samples."""
    if limit is None or "train" not in spec.samples:
        return spec
    return replace(spec, samples={**spec.samples, "train": min(limit, spec.samples["train"])})


def _root(spec: SourceSpec, cache: Path, origin: Path | None) -> Path:
    return cache.resolve() / f"{spec.name}-{_address(data_key(spec), origin)}"


def _address(key: str, origin: Path | None) -> str:
    """Name of a build: its description and, where it has files, each one's path, size and time of change."""
    listing: list[list[object]] = []
    if origin is not None:
        listing = [[str(origin), 0, 0], *([each.path, each.size, each.mtime_ns] for each in list_images(origin))]
    return checksum({"format": FORMAT, "key": key, "files": listing})[:16]


def _find(root: Path) -> Manifest | None:
    """The manifest of what is built at ``root``; None where nothing is. Raises ShardCorrupt where it is damaged."""
    if not root.exists():
        return None
    try:
        manifest = read_manifest(root)
    except DataMissing as error:
        raise ShardCorrupt(f"{root}: expected {MANIFEST}, found none; {how_to_rebuild(root)}") from error
    if problems := missized(root, manifest):
        raise ShardCorrupt(f"{root}: {'; '.join(problems)}; {how_to_rebuild(root)}")
    return manifest


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the system releases it when this process dies, however it dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_once(spec: SourceSpec, origin: Path | None, root: Path, on_progress: OnProgress) -> Manifest:
    """Build ``root``, unless another process did so while this one waited for the lock."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with _lock(root.with_name(f".{root.name}.lock")):
        return _find(root) or _build(spec, origin, root, on_progress)


def _build(spec: SourceSpec, origin: Path | None, root: Path, on_progress: OnProgress) -> Manifest:
    """Build ``root``; the caller holds its lock, so any unfinished folder of its name is a dead build's."""
    for left in root.parent.glob(f".{root.name}.building-*"):
        shutil.rmtree(left)
    building = root.with_name(f".{root.name}.building-{os.getpid()}")
    building.mkdir()
    try:
        manifest = _write(spec, origin, building, on_progress)
        write_manifest(building, manifest)
        for path in (*building.iterdir(), building):
            _fsync(path)
        building.rename(root)
        _fsync(root.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _write(spec: SourceSpec, origin: Path | None, folder: Path, on_progress: OnProgress) -> Manifest:
    """Write all splits of the source into ``folder``, and say what was written."""
    from expflow.data.statistics import Statistics

    source: Source = load_dotted(spec.build)(spec, origin)
    samples = {split: len(items) for split, items in source.splits.items()}
    statistics, bad, splits, before = Statistics(), list[str](), dict[str, tuple[Shard, ...]](), 0
    for split in source.splits:
        step = partial(_step, on_progress, before, sum(samples.values()))
        splits[split] = _write_split(source, split, folder, statistics, bad, step)
        before += samples[split]
    _refuse(bad, before, origin)
    known = DataSpec(source.shapes, source.classes, samples, **statistics.mean_and_std())
    return Manifest(data_key(spec), spec.description(), source.fields, splits, known, statistics.content())


def _step(on_progress: OnProgress, before: int, total: int, done: int) -> None:
    on_progress(before + done, total)


def _write_split(
    source: Source, split: str, folder: Path, statistics: Statistics, bad: list[str], step: Callable[[int], None]
) -> tuple[Shard, ...]:
    """Write the samples of one split; those that cannot be read are added to ``bad`` instead."""
    from expflow.data.shards import SplitWriter, sample_key
    from expflow.data.sources.base import BadSample

    with SplitWriter(folder, split, source.fields) as writer:
        for position, item in enumerate(source.splits[split]):
            try:
                values = source.read(item)
            except BadSample as error:
                bad.append(f"{item.name}: {error}")
            else:
                writer.write(sample_key(position, item.name), values)
                statistics.add(split, values)
            step(position + 1)
    return tuple(writer.shards)


def _refuse(bad: list[str], total: int, origin: Path | None) -> None:
    """Raise DataInvalid when there are ``bad`` images."""
    if not bad:
        return
    more = [f"and {len(bad) - MOST_NAMED} more"] if len(bad) > MOST_NAMED else []
    named = "\n".join(f"  {line}" for line in [*sorted(bad)[:MOST_NAMED], *more])
    raise DataInvalid(
        f"{len(bad)} of {total} images in {origin} cannot be read; mend or remove them, nothing was built:\n{named}"
    )


def _fsync(path: Path) -> None:
    """Have the disk hold ``path`` (a file or a folder) before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
