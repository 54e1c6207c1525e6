"""Shards that are there already: indexed and counted where they are, and never written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from expflow.data.building import Job, write_statistics
from expflow.data.dataspec import DataSpec
from expflow.data.index import Index, index_tar
from expflow.data.manifest import SAFE_FILE, Manifest, Shard, Sidecar, checksum, write_manifest
from expflow.data.parts import Part, Planned, find_part, write_record
from expflow.data.read import hash_of, mapped
from expflow.data.shards import write_whole
from expflow.data.sources.base import BadSample, file_fields, printable
from expflow.data.sources.encoded import FileReader
from expflow.data.sources.layout import tars
from expflow.data.specs import Shards
from expflow.data.statistics import Content, Counts
from expflow.data.stores import open_root
from expflow.data.stores.signed import bare
from expflow.errors import DataInvalid, DataMissing

SEEN = 2000
"""Training images that are decoded for mean and standard deviation: all of them would take as long as an epoch."""

NAMES = {
    "train": re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE),
    "val": re.compile(r"(?<![a-z])val(id|idation)?(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"(?<![a-z])test(ing)?(?![a-z])", re.IGNORECASE),
}


@dataclass(frozen=True)
class _Tar:
    """A shard that was found: its path below the origin and what says that it is still the same."""

    name: str
    stamp: tuple[int, int]


def index_everything(job: Job) -> Manifest:
    """Index every shard at the job's origin, and write the manifest that says where they are.

    Raises DataMissing without shards, DataInvalid naming the first shard that must not be used, and why.
    """
    spec = cast(Shards, job.spec)
    splits = _splits(spec, job)
    if not splits:
        raise DataMissing(f"no .tar in {job.where}; {spec.where}", key="data.path")
    planned = [
        Planned(
            f"{split}-{number:06d}", split, number, (), checksum({"tar": [each.name, *each.stamp], "as": spec.fields})
        )
        for split, found in splits.items()
        for number, each in enumerate(found)
    ]
    tars_of = [each for found in splits.values() for each in found]
    look = _Look(spec, job, -(-SEEN // len(splits["train"])))
    total, shards, content = Counts(), dict[str, list[Shard]](), Content()
    with ThreadPoolExecutor(max(job.workers, 1)) as threads:
        for done, (each, part) in enumerate(zip(planned, threads.map(look, planned, tars_of), strict=True), start=1):
            if part.shard is not None:
                total.add(part.counts)
                shards.setdefault(each.split, []).append(part.shard)
                content.add_digests(each.split, bytes.fromhex(part.shard.sha256))
            job.on_progress(done, len(planned))
    return _manifest(spec, job, {split: tuple(each) for split, each in shards.items()}, total, content)


def _splits(spec: Shards, job: Job) -> dict[str, list[_Tar]]:
    """The shards of each split, in the order of their paths. Raises DataInvalid at a name that must not be used."""
    found = _listed(job)
    for each in found:
        if not SAFE_FILE.fullmatch(each.name):
            raise DataInvalid(
                f"{job.where}: {printable(each.name)!r} is no name for a shard; use letters, digits, dots, - and _"
            )
    splits: dict[str, list[_Tar]] = {}
    for each in found:
        if (split := _split_of(spec, each.name)) is not None:
            splits.setdefault(split, []).append(each)
    if splits and "train" not in splits:
        raise DataInvalid(f"{job.where}: no shards of train among {len(found)}; say which they are under data.splits")
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _listed(job: Job) -> list[_Tar]:
    if isinstance(job.origin, Path):
        return [_Tar(name, (size, mtime)) for name, size, mtime in tars(job.origin)]
    names = open_root(str(job.origin)).list()
    return [_Tar(name, (0, 0)) for name in names if name.endswith(".tar")]


def _split_of(spec: Shards, name: str) -> str | None:
    """The split of a shard; None where patterns are given and none fits."""
    if spec.splits:
        return next((split for split, pattern in spec.splits.items() if fnmatchcase(name, pattern)), None)
    return next((split for split in ("test", "val", "train") if NAMES[split].search(name)), "train")


@dataclass(frozen=True)
class _Look:
    """Looks into one shard; ``seen`` of its images are decoded, if it is of train."""

    spec: Shards
    job: Job
    seen: int

    def __call__(self, planned: Planned, tar: _Tar) -> Part:
        """Index one shard, or find that an earlier run did. Raises DataInvalid, naming it."""
        if (part := find_part(self.job.folder, planned, elsewhere=True)) is not None:
            return part
        try:
            with self._at_hand(tar.name) as path:
                size, sha256 = hash_of(path)
                with mapped(path) as content:
                    index = index_tar(content, self.spec.fields, extras=True)
                    counts = self._counts(planned.split, content, index)
        except (OSError, ValueError) as error:
            raise DataInvalid(f"{self.job.where}: {tar.name}: {error}; get it again, or take it away") from error
        counts.bytes = size
        part = Part(planned.plan, self._shard(planned, tar, size, sha256, index), counts)
        write_record(self.job.folder, planned, part)
        return part

    @contextmanager
    def _at_hand(self, name: str) -> Iterator[Path]:
        if isinstance(self.job.origin, Path):
            yield self.job.origin / name
            return
        path = self.job.folder / f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.tar"
        try:
            open_root(str(self.job.origin)).download(name, path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _shard(self, planned: Planned, tar: _Tar, size: int, sha256: str, index: Index) -> Shard | None:
        if not len(index):
            return None
        content = index.to_bytes()
        sidecar = self.job.folder / f"{planned.name}.idx"
        write_whole(sidecar, content)
        stamp = Sidecar(sidecar.name, len(content), hashlib.sha256(content).hexdigest())
        return Shard(tar.name, len(index), size, sha256, stamp)

    def _counts(self, split: str, content: memoryview, index: Index) -> Counts:
        """Count all labels, and look at some images. Raises ValueError at a label that is no class number."""
        counts = Counts()
        files = FileReader(Path(), self.spec.channels)
        columns = index.fields.index("image"), index.fields.index("label")
        for row, (offsets, sizes) in enumerate(zip(index.offsets.tolist(), index.sizes.tolist(), strict=True)):
            image, label = (slice(offsets[at], offsets[at] + sizes[at]) for at in columns)
            number = _class_number(bytes(content[label]), index, row)
            if split != "train" or row >= self.seen:
                counts.label(split, number)
                continue
            try:
                seen = files.encoded(bytes(content[image]))
            except BadSample as error:
                counts.bad.append((index.keys[row], str(error)))
                counts.label(split, number)
            else:
                counts.image(split, number, seen.histogram, seen.width, seen.height, seen.kind, anew=False)
        return counts


def _class_number(content: bytes, index: Index, row: int) -> int:
    text = content.decode("ascii", "replace").strip()
    if not text.isdigit():
        raise ValueError(f"sample {printable(index.keys[row])!r}: its class is {text[:40]!r}, expected a number from 0")
    return int(text)


def _manifest(
    spec: Shards, job: Job, splits: Mapping[str, tuple[Shard, ...]], total: Counts, content: Content
) -> Manifest:
    mean, std = total.mean_and_std()
    samples = {split: sum(shard.samples for shard in shards) for split, shards in splits.items()}
    largest = max((label for counted in total.classes.values() for label in counted), default=-1)
    classes = _class_names(spec, job, largest + 1)
    description = spec.description()
    shapes = file_fields(spec.channels)["shapes"]
    manifest = Manifest(
        checksum(description)[:12],
        description,
        spec.fields,
        splits,
        DataSpec(shapes, classes, samples, mean, std),
        content.hexdigest(),
        at=bare(str(job.origin)),
        statistics=write_statistics(job.folder, total),
    )
    write_manifest(job.folder, manifest)
    return manifest


def _class_names(spec: Shards, job: Job, count: int) -> tuple[str, ...]:
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
