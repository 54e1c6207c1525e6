"""Shards that exist already: they are indexed and counted where they are, and never written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from expflow.data.dataspec import DataSpec
from expflow.data.prepare.earlier_index import check_as_before
from expflow.data.prepare.finished_shard import FinishedShard, find_finished_shard, write_record
from expflow.data.prepare.prepared import data_key
from expflow.data.prepare.shard_jobs import BuildJob, write_statistics
from expflow.data.prepare.shard_plan import PlannedShard
from expflow.data.shards.files import memory_mapped, size_and_sha256, write_atomically
from expflow.data.shards.index import ShardIndex, index_tar
from expflow.data.shards.manifest import SAFE_FILE, ShardEntry, ShardManifest, Sidecar, checksum, write_manifest
from expflow.data.shards.passed_over import PassedOver
from expflow.data.shards.statistics import ContentHash, SampleCounts
from expflow.data.shards.structure_notes import structure_notes
from expflow.data.shards.tar import TarDamaged
from expflow.data.sources.base import BadSample, file_fields, printable
from expflow.data.sources.image_files import ImageFileReader
from expflow.data.sources.listing import COMPRESSED_TAR, list_tars
from expflow.data.specs import ShardsSpec
from expflow.data.stores import open_root
from expflow.data.stores.signed_urls import without_query
from expflow.errors import DataInvalid, DataMissing, ShardCorrupt

DECODED_IMAGES = 2000
"""Training images that are decoded for mean and standard deviation: all of them would take as long as an epoch."""

NAMES = {
    "train": re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE),
    "val": re.compile(r"(?<![a-z])val(id|idation)?(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"(?<![a-z])test(ing)?(?![a-z])", re.IGNORECASE),
}
OTHER_SPLITS = re.compile(
    r"(?<![a-z])(dev(el(opment)?|test)?|eval(uation)?|h[eo]ld[-_]?out|mini-?val|tune|tuning|calib(ration)?|probe|query"
    r"|gallery|challenge|unlabell?ed|extra)(?![a-z])",
    re.IGNORECASE,
)
"""Names of parts of data sets that are none of the three: their shards are not used before the recipe says for what."""

MOST_CLASSES = 1_000_000
"""Classes that are believed: each has a name in the manifest, and a row in the network."""
LONGEST_LABEL = 100
"""Bytes of a label, with white space around it."""


@dataclass(frozen=True)
class _TarFile:
    """A shard that exists: its path below the origin, and its size and time of change (zeros at an address)."""

    name: str
    stamp: tuple[int, int]


def index_shards(job: BuildJob) -> ShardManifest:
    """Index every shard at the job's origin, and write the manifest that says where they are.

    Args:
        job: the build, whose source is a :class:`~expflow.data.specs.ShardsSpec`.

    Raises:
        DataMissing: there are no shards.
        ShardCorrupt: one is damaged; the message names the first.
        DataInvalid: one must not be used; the message names the first and says why.
    """
    spec = cast(ShardsSpec, job.spec)
    passed_over = PassedOver()
    splits = _splits(spec, job, passed_over)
    if not splits:
        raise DataMissing(f"no .tar in {job.where}; {spec.where}", key="data.path")
    tars = [(split, number, tar) for split, in_split in splits.items() for number, tar in enumerate(in_split)]
    planned_shards = [
        PlannedShard(
            f"{split}-{number:06d}", split, number, (), checksum({"tar": [tar.name, *tar.stamp], "as": spec.fields})
        )
        for split, number, tar in tars
    ]
    index_one = _ShardIndexer(spec, job, -(-DECODED_IMAGES // len(splits["train"])))
    total, entries, content = SampleCounts(passed_over=passed_over), dict[str, list[ShardEntry]](), ContentHash()
    with ThreadPoolExecutor(max(job.workers, 1)) as threads:
        indexed = threads.map(index_one, planned_shards, [tar for _, _, tar in tars])
        for done, (planned, finished) in enumerate(zip(planned_shards, indexed, strict=True), start=1):
            total.add(finished.counts)
            if finished.shard is not None:
                entries.setdefault(planned.split, []).append(finished.shard)
                content.add_digests(planned.split, bytes.fromhex(finished.shard.sha256))
            job.on_progress(done, len(planned_shards))
    if empty := [split for split in splits if split not in entries]:
        raise DataInvalid(
            f"{job.where}: no sample in the shards of {' and '.join(empty)}, such as {splits[empty[0]][0].name}"
            + "".join(f"; not read: {line}" for line in total.passed_over.lines())
        )
    check_as_before(job, [shard for shards in entries.values() for shard in shards])
    return _write_manifest(spec, job, {split: tuple(shards) for split, shards in entries.items()}, total, content)


def _splits(spec: ShardsSpec, job: BuildJob, passed_over: PassedOver) -> dict[str, list[_TarFile]]:
    """The shards of each split, in the order of their paths; what is not read is added to ``passed_over``.

    Raises DataInvalid at a name that must not be used, and where shards would be left out without being meant to.
    """
    tars, compressed = _listed(job, passed_over)
    if compressed and not spec.splits:
        raise DataInvalid(
            f"{job.where}: {', '.join(compressed[:5])}{', …' if len(compressed) > 5 else ''} would not be read: shards"
            " are read in place, so they must not be compressed; unpack them (gunzip), or name the shards that are"
            " meant under data.splits"
        )
    for tar in tars:
        if not SAFE_FILE.fullmatch(tar.name):
            raise DataInvalid(
                f"{job.where}: {printable(tar.name)!r} is no name for a shard; use letters, digits, dots, - and _"
            )
    splits: dict[str, list[_TarFile]] = {}
    if not spec.splits:
        _check_names(job, [tar.name for tar in tars])
    for tar in tars:
        if (split := _split_of(spec, tar.name)) is not None:
            splits.setdefault(split, []).append(tar)
        else:
            passed_over.add("shards that no pattern of data.splits names", tar.name)
    if splits and "train" not in splits:
        raise DataInvalid(f"{job.where}: no shards of train among {len(tars)}; say which they are under data.splits")
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _check_names(job: BuildJob, names: Sequence[str]) -> None:
    """Raise DataInvalid where names alone do not say which shards are for training."""
    unknown = [name for name in names if OTHER_SPLITS.search(name) and _named_split(name) is None]
    if any(_named_split(name) == "train" for name in names):
        unknown = [name for name in names if _named_split(name) is None]
    if unknown:
        raise DataInvalid(
            f"{job.where}: {', '.join(unknown[:5])}{', …' * (len(unknown) > 5)}: these names do not say train, val"
            " or test, while others do or they look like another part, so they are not trained on; say which"
            " shards are which under data.splits, as {train: train-*.tar, val: dev-*.tar}"
        )


def _listed(job: BuildJob, passed_over: PassedOver) -> tuple[list[_TarFile], list[str]]:
    """The tars at the origin and the names of the compressed ones; what is no tar is added to ``passed_over``."""
    if isinstance(job.origin, Path):
        listing = list_tars(job.origin)
        passed_over.update(listing.passed_over)
        return [_TarFile(name, (size, mtime)) for name, size, mtime in listing.tars], listing.compressed
    names = open_root(str(job.origin)).list()
    for name in names:
        if not name.endswith(".tar"):
            passed_over.add("files that are no tars", name)
    compressed = [name for name in names if COMPRESSED_TAR.search(name)]
    return [_TarFile(name, (0, 0)) for name in names if name.endswith(".tar")], compressed


def _split_of(spec: ShardsSpec, name: str) -> str | None:
    """The split of a shard; None where patterns are given and none fits."""
    if spec.splits:
        return next((split for split, pattern in spec.splits.items() if fnmatchcase(name, pattern)), None)
    return _named_split(name) or "train"


def _named_split(name: str) -> str | None:
    """The split that a shard's path names; None where it names none."""
    return next((split for split in ("test", "val", "train") if NAMES[split].search(name)), None)


@dataclass(frozen=True)
class _ShardIndexer:
    """Indexes one shard and counts its samples; ``decoded`` of its images are decoded, if it is of train."""

    spec: ShardsSpec
    job: BuildJob
    decoded: int

    def __call__(self, planned: PlannedShard, tar: _TarFile) -> FinishedShard:
        """Index one shard, or find that an earlier run did. Raises ShardCorrupt or DataInvalid, naming it."""
        if (earlier := find_finished_shard(self.job.folder, planned, index_only=True)) is not None:
            return earlier
        passed_over = PassedOver()
        try:
            with self._local_file(tar.name) as path:
                size, sha256 = size_and_sha256(path)
                if not size:
                    raise TarDamaged("it is empty")
                with memory_mapped(path) as content:
                    index = index_tar(content, self.spec.fields, extras=True, passed_over=passed_over)
                    counts = self._counts(planned.split, content, index)
        except (OSError, TarDamaged) as error:
            raise ShardCorrupt(f"{self.job.where}: {tar.name}: {error}; get it again, or take it away") from error
        except ValueError as error:
            raise DataInvalid(f"{self.job.where}: {tar.name}: {error}; correct it, or take it away") from error
        counts.bytes, counts.passed_over = size, passed_over
        finished = FinishedShard(planned.plan, self._entry(planned, tar, size, sha256, index), counts)
        write_record(self.job.folder, planned, finished)
        return finished

    @contextmanager
    def _local_file(self, name: str) -> Iterator[Path]:
        if isinstance(self.job.origin, Path):
            yield self.job.origin / name
            return
        path = self.job.folder / f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.tar"
        try:
            open_root(str(self.job.origin)).download(name, path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _entry(
        self, planned: PlannedShard, tar: _TarFile, size: int, sha256: str, index: ShardIndex
    ) -> ShardEntry | None:
        if not len(index):
            return None
        content = index.to_bytes()
        path = self.job.folder / f"{planned.name}.idx"
        write_atomically(path, content)
        sidecar = Sidecar(path.name, len(content), hashlib.sha256(content).hexdigest())
        return ShardEntry(tar.name, len(index), size, sha256, sidecar)

    def _counts(self, split: str, content: memoryview, index: ShardIndex) -> SampleCounts:
        """Count all labels, and decode some images. Raises ValueError at a label that is no class number."""
        counts = SampleCounts()
        files = ImageFileReader(Path(), self.spec.channels)
        columns = index.fields.index("image"), index.fields.index("label")
        for row, (offsets, sizes) in enumerate(zip(index.offsets.tolist(), index.sizes.tolist(), strict=True)):
            image, label = (slice(offsets[at], offsets[at] + sizes[at]) for at in columns)
            number = _class_number(bytes(content[label]), index, row)
            counts.label(split, number)
            if split != "train" or row >= self.decoded:
                continue
            try:
                stored = files.encoded(bytes(content[image]))
            except BadSample as error:
                counts.bad.append((index.keys[row], str(error)))
            else:
                counts.image(split, stored.histogram, stored.width, stored.height, stored.kind, anew=False)
        return counts


def _class_number(content: bytes, index: ShardIndex, row: int) -> int:
    text = content[:LONGEST_LABEL].decode("ascii", "replace").strip()
    if not text.isdigit() or len(content) > LONGEST_LABEL or int(text) >= MOST_CLASSES:
        raise ValueError(
            f"sample {printable(index.keys[row])!r}: its class is {text[:40]!r}, expected a number from 0 to"
            f" {MOST_CLASSES - 1}"
        )
    return int(text)


def _write_manifest(
    spec: ShardsSpec,
    job: BuildJob,
    splits: Mapping[str, tuple[ShardEntry, ...]],
    total: SampleCounts,
    content: ContentHash,
) -> ShardManifest:
    mean, std = total.mean_and_std()
    samples = {split: sum(shard.samples for shard in shards) for split, shards in splits.items()}
    largest = max((label for counted in total.classes.values() for label in counted), default=-1)
    classes = _class_names(spec, job, largest + 1)
    shapes = file_fields(spec.channels)["shapes"]
    manifest = ShardManifest(
        data_key(spec),
        spec.description(),
        spec.fields,
        splits,
        DataSpec(shapes, classes, samples, mean, std),
        content.hexdigest(),
        at=without_query(str(job.origin)),
        statistics=write_statistics(job.folder, total),
        passed_over=total.passed_over,
        notes=tuple(structure_notes(classes, total.classes)),
    )
    write_manifest(job.folder, manifest)
    return manifest


def _class_names(spec: ShardsSpec, job: BuildJob, count: int) -> tuple[str, ...]:
    """The names in the file of classes, else the numbers. Raises DataInvalid where the file has too few."""
    if spec.classes is None:
        return tuple(map(str, range(count)))
    try:
        lines = open_root(str(job.origin)).read_bytes(spec.classes).decode("utf-8").splitlines()
    except (DataMissing, UnicodeDecodeError) as error:
        raise DataInvalid(f"{spec.classes}: no list of classes ({error}); correct data.classes") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) < count:
        raise DataInvalid(f"{spec.classes}: {len(names)} classes, and {job.where} has labels up to {count - 1}")
    return names
