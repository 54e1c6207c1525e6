"""Writing the shards of a source: planned first, several at once, each whole or not there, going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import VOID, DataSpec, FieldSpec
from expflow.data.kinds import field_value
from expflow.data.prepare.finished_shard import (
    FinishedShard,
    find_finished_shard,
    write_planned_shard,
    write_record,
)
from expflow.data.prepare.palette import MOST_IMAGES, palette_of
from expflow.data.prepare.prepared import OnProgress, data_key, described_source
from expflow.data.prepare.shard_plan import PlannedShard, plan_shards
from expflow.data.prepare.worker_processes import write_by_processes
from expflow.data.shards.files import write_atomically
from expflow.data.shards.index import read_index
from expflow.data.shards.manifest import MANIFEST, ShardEntry, ShardManifest, Sidecar, write_manifest
from expflow.data.shards.statistics import ContentHash, SampleCounts
from expflow.data.shards.structure_notes import structure_notes
from expflow.data.source_spec import Origin, ShardedSourceSpec
from expflow.data.sources.base import SampleSource, printable, with_search_val
from expflow.data.stores import Root
from expflow.errors import DataInvalid
from expflow.files import fsync_path
from expflow.redaction import public_address
from expflow.registry import load_dotted

MOST_NAMED = 20
"""Bad images that an error names; the rest are counted."""

STATISTICS = "statistics.json"
SENDERS = 4
"""Shards that are on their way to a remote folder at once."""


@dataclass(frozen=True)
class BuildJob:
    """One build.

    Attributes:
        spec: the recipe's source.
        origin: folder or address of its files; None where it brings its own.
        folder: the hidden folder in which the shards are written.
        workers: number of processes, or of threads where existing shards are indexed.
        sent_to: where each finished shard is sent; None where the shards stay in the folder.
        on_progress: called with the samples that are done and those that there are.
    """

    spec: ShardedSourceSpec
    origin: Origin
    folder: Path
    workers: int = 1
    sent_to: Root | None = None
    on_progress: OnProgress = lambda done, total: None

    @property
    def where(self) -> str:
        """``origin`` for messages."""
        return public_address(str(self.origin))


def write_shards(job: BuildJob) -> ShardManifest:
    """Write the shards that are not there yet, and the manifest last.

    Args:
        job: the build. What opening its source raises is passed on, and so is OSError.

    Raises:
        DataInvalid: more images cannot be read than ``bad_limit`` allows.
    """
    spec = job.spec
    source: SampleSource = with_search_val(load_dotted(spec.build)(spec, job.origin), spec)
    description = {"source": spec.description(), "fields": source.fields}
    planned_shards = plan_shards(source, description, spec.longest_side)
    _remove_leftovers(job.folder, planned_shards)
    content, total = ContentHash(), SampleCounts(passed_over=source.passed_over)
    splits: dict[str, list[ShardEntry]] = {split: [] for split in source.splits}
    for planned, finished in _finished_shards(job, source, planned_shards):
        total.add(finished.counts)
        if finished.shard is not None:
            splits[planned.split].append(finished.shard)
            _add_content(content, job.folder, source, planned, finished)
    _check_bad_images(total.bad, sum(len(items) for items in source.splits.values()), job)
    _check_masks(total.areas, job)
    return _finish(job, source, {split: tuple(shards) for split, shards in splits.items()}, total, content)


def _remove_leftovers(folder: Path, planned_shards: Sequence[PlannedShard]) -> None:
    """Remove what an earlier build left that planned other shards."""
    known = {planned.name for planned in planned_shards}
    for path in folder.iterdir():
        if path.stem not in known or path.suffix not in (".tar", ".idx", ".json"):
            path.unlink()


def _add_content(
    content: ContentHash, folder: Path, source: SampleSource, planned: PlannedShard, finished: FinishedShard
) -> None:
    """Add a shard's samples to the hash over all; pixels are read back from what was written."""
    if finished.digests or finished.shard is None:
        content.add_digests(planned.split, finished.digests)
        return
    tar = memoryview((folder / finished.shard.name).read_bytes())
    index = read_index(folder, finished.shard, source.fields)
    for offsets, sizes in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
        values = {}
        for field, offset, size in zip(index.fields, offsets, sizes, strict=True):
            value = field_value(source.shapes[field], source.fields[field], tar[offset : offset + size])
            values[field] = value.transpose(1, 2, 0) if source.shapes[field].kind == "image" else value
        content.add(planned.split, values)


def _check_bad_images(bad: Sequence[tuple[str, str]], total: int, job: BuildJob) -> None:
    """Raise DataInvalid when more images are ``bad`` than may be."""
    if len(bad) <= job.spec.bad_limit:
        return
    lines = sorted(f"{printable(name)}: {reason}" for name, reason in bad)
    more = [f"and {len(bad) - MOST_NAMED} more"] if len(bad) > MOST_NAMED else []
    named = "\n".join(f"  {line}" for line in [*lines[:MOST_NAMED], *more])
    raise DataInvalid(
        f"{len(bad)} of {total} images in {job.where} cannot be read; mend or remove them, or allow as many with"
        f" data.bad_limit; nothing was built:\n{named}"
    )


def _check_masks(areas: Mapping[str, Mapping[int, int]], job: BuildJob) -> None:
    """Raise DataInvalid where masks hold 255, which is void here, in the place of the one class beside the first."""
    present = {number for counted in areas.values() for number, pixels in counted.items() if pixels}
    if present == {0, VOID}:
        raise DataInvalid(
            f"the masks in {job.where} hold 0 and {VOID} alone, and {VOID} is void, which no loss and no metric counts;"
            " save what is to be found as 1"
        )


def _finish(
    job: BuildJob,
    source: SampleSource,
    splits: Mapping[str, tuple[ShardEntry, ...]],
    total: SampleCounts,
    content: ContentHash,
) -> ShardManifest:
    """Write statistics and manifest, here and where the shards were sent."""
    mean, std = total.mean_and_std()
    samples = {split: sum(shard.samples for shard in shards) for split, shards in splits.items()}
    manifest = ShardManifest(
        data_key(job.spec, source.reading),
        described_source(job.spec, source.reading),
        source.fields,
        splits,
        DataSpec(_with_palette(job, source, splits), source.classes, samples, mean, std, source.synsets),
        content.hexdigest(),
        statistics=write_statistics(job.folder, total),
        passed_over=total.passed_over,
        notes=(*source.notes, *_structure_notes(source, total)),
    )
    write_manifest(job.folder, manifest)
    if job.sent_to is not None:
        for name in (STATISTICS, MANIFEST):
            job.sent_to.write_file(name, job.folder / name)
    for path in (job.folder / MANIFEST, job.folder):
        fsync_path(path)
    return manifest


def _with_palette(
    job: BuildJob, source: SampleSource, splits: Mapping[str, tuple[ShardEntry, ...]]
) -> Mapping[str, FieldSpec]:
    """The shapes of the fields, the image's with its palette where the recipe asks for one."""
    image = source.shapes.get("image")
    if not job.spec.palette or image is None:
        return source.shapes
    palette = palette_of(_first_images(job, source, splits.get("train", ())), job.spec.palette)
    return {**source.shapes, "image": replace(image, palette=palette)}


def _first_images(job: BuildJob, source: SampleSource, shards: Sequence[ShardEntry]) -> Iterator[NDArray[np.uint8]]:
    """(c, h, w) of the first images, read back from what was written."""
    left = MOST_IMAGES
    for shard in shards:
        tar = memoryview((job.folder / shard.name).read_bytes())
        index = read_index(job.folder, shard, source.fields)
        column = index.fields.index("image")
        for offsets, sizes in zip(index.offsets.tolist()[:left], index.sizes.tolist()[:left], strict=True):
            content = tar[offsets[column] : offsets[column] + sizes[column]]
            yield field_value(source.shapes["image"], source.fields["image"], content)
        left -= min(left, len(index.offsets))
        if not left:
            return


def _structure_notes(source: SampleSource, total: SampleCounts) -> Iterator[str]:
    """What a user should know of the classes; nothing where samples have numbers and no classes."""
    if {field.kind for field in source.shapes.values()} - {"image", "numbers", "text"}:
        yield from structure_notes(source.classes, *total.by_class())


def remove_build_records(folder: Path) -> None:
    """Remove the records that only an unfinished build needs.

    Args:
        folder: folder of a finished build.
    """
    for path in folder.glob("*.json"):
        if path.name not in (MANIFEST, STATISTICS):
            path.unlink()


def write_statistics(folder: Path, total: SampleCounts) -> Sidecar:
    """Write what was counted, for ``expflow data stats``.

    Args:
        folder: folder of the build.
        total: counts over all samples.

    Returns:
        The file's entry for the manifest.
    """
    text = (json.dumps(total.to_json(), separators=(",", ":")) + "\n").encode()
    write_atomically(folder / STATISTICS, text)
    return Sidecar(STATISTICS, len(text), sha256(text).hexdigest())


def _finished_shards(
    job: BuildJob, source: SampleSource, planned_shards: Sequence[PlannedShard]
) -> Iterator[tuple[PlannedShard, FinishedShard]]:
    """Every shard in the order of the plan: left by an earlier run, or written now."""
    remote = set(job.sent_to.list()) if job.sent_to is not None else set[str]()
    with ThreadPoolExecutor(job.workers) as threads:
        earlier = list(threads.map(lambda planned: find_finished_shard(job.folder, planned), planned_shards))
    pairs = zip(planned_shards, earlier, strict=True)
    done = {planned.name: shard for planned, shard in pairs if shard is not None and _is_usable(shard, remote)}
    new = _written_now(job, source, planned_shards, done)
    with ThreadPoolExecutor(SENDERS) as senders:
        sending = set[Future[None]]()
        for planned in planned_shards:
            finished = done.get(planned.name) or next(new)
            yield planned, finished
            if job.sent_to is not None and finished.shard is not None and not finished.sent:
                sending.add(senders.submit(_send, job.sent_to, job.folder, planned, finished))
            sending = _wait_for_senders(sending, 2 * SENDERS)
        _wait_for_senders(sending, 0)


def _is_usable(finished: FinishedShard, remote: set[str]) -> bool:
    """Whether a shard that was sent away is still among those at the remote place."""
    return not finished.sent or finished.shard is None or finished.shard.name in remote


def _written_now(
    job: BuildJob, source: SampleSource, planned_shards: Sequence[PlannedShard], done: Mapping[str, FinishedShard]
) -> Iterator[FinishedShard]:
    """The shards that no earlier run left, in order, written by this process or by several."""
    missing = [planned for planned in planned_shards if planned.name not in done]
    progress = _Progress(job.on_progress, planned_shards, done)
    if job.workers > 1 and source.portable and len(missing) > 1:
        yield from write_by_processes(source, missing, job.folder, job.workers, progress.report_others)
        return
    for planned in missing:
        yield write_planned_shard(source.read, source.fields, source.shapes, planned, job.folder, progress.add_sample)


def _wait_for_senders(sending: set[Future[None]], most: int) -> set[Future[None]]:
    """Wait until at most ``most`` are on their way, so that the disk here need not hold them all; returns those."""
    while len(sending) > most:
        arrived, sending = wait(sending, return_when=FIRST_COMPLETED)
        for future in arrived:
            future.result()
    return sending


def _send(root: Root, folder: Path, planned: PlannedShard, finished: FinishedShard) -> None:
    """Send one shard and its index; they are removed here unless the shard's pixels belong into a hash over all."""
    entries = (finished.shard, finished.shard and finished.shard.index)
    names = [entry.name for entry in entries if entry is not None]
    for name in names:
        root.write_file(name, folder / name)
    write_record(folder, planned, replace(finished, sent=True))
    if finished.digests:
        for name in names:
            (folder / name).unlink()


class _Progress:
    """Adds up the finished samples of an earlier run, of this process and of others."""

    def __init__(
        self, report: OnProgress, planned_shards: Sequence[PlannedShard], done: Mapping[str, FinishedShard]
    ) -> None:
        self._report, self._total = report, sum(len(planned.items) for planned in planned_shards)
        self._done = sum(len(planned.items) for planned in planned_shards if planned.name in done)

    def add_sample(self) -> None:
        """Count one sample more, written by this process."""
        self._done += 1
        self._report(self._done, self._total)

    def report_others(self, count: int) -> None:
        """Report that ``count`` samples in all were written by other processes."""
        self._report(self._done + count, self._total)
