"""Writing the shards of a source: planned first, several at once, each whole or not there, going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from hashlib import sha256
from multiprocessing import connection, get_context, parent_process
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from expflow.data.codecs import decode
from expflow.data.dataspec import DataSpec
from expflow.data.index import read_index
from expflow.data.manifest import MANIFEST, Manifest, Shard, Sidecar, checksum, write_manifest
from expflow.data.parts import Part, Planned, find_part, plan_shards, write_part, write_record
from expflow.data.shards import write_whole
from expflow.data.sources.base import Origin, Read, Source, printable
from expflow.data.specs import Source as SourceSpec
from expflow.data.statistics import Content, Counts
from expflow.data.stores import Root
from expflow.data.stores.address import shown
from expflow.errors import DataInvalid, Missing
from expflow.files import sync
from expflow.registry import load_dotted

OnProgress = Callable[[int, int], None]
"""Called with the samples that are done and those there are."""

MOST_NAMED = 20
"""Bad images that an error names; the rest are counted."""

STATISTICS = "statistics.json"
POLL_SECONDS = 0.1
SENDERS = 4
"""Shards that are on their way to a remote folder at once."""


@dataclass(frozen=True)
class Job:
    """One build: what of, in which hidden ``folder``, with how many processes, and where the shards are sent, if so."""

    spec: SourceSpec
    origin: Origin
    folder: Path
    workers: int = 1
    sent_to: Root | None = None
    on_progress: OnProgress = lambda done, total: None

    @property
    def where(self) -> str:
        """``origin`` for messages."""
        return shown(str(self.origin))


def write_everything(job: Job) -> Manifest:
    """Write the shards of ``job`` that are not there yet, and the manifest last.

    Raises what opening the source raises, DataInvalid where more images are bad than may be, and OSError.
    """
    spec = job.spec
    source: Source = load_dotted(spec.build)(spec, job.origin)
    planned = plan_shards(
        source, {"source": spec.description(), "fields": source.fields}, getattr(spec, "max_side", None)
    )
    _remove_strangers(job.folder, planned)
    content, total = Content(), Counts()
    splits: dict[str, list[Shard]] = {split: [] for split in source.splits}
    for each, part in _written(job, source, planned):
        total.add(part.counts)
        if part.shard is not None:
            splits[each.split].append(part.shard)
            _add_content(content, job.folder, source, each, part)
    _refuse(total.bad, sum(len(items) for items in source.splits.values()), job)
    return _finish(job, source, {split: tuple(shards) for split, shards in splits.items()}, total, content)


def _remove_strangers(folder: Path, planned: Sequence[Planned]) -> None:
    """Remove what an earlier build left that planned other shards."""
    known = {each.name for each in planned}
    for path in folder.iterdir():
        if path.stem not in known or path.suffix not in (".tar", ".idx", ".json"):
            path.unlink()


def _add_content(content: Content, folder: Path, source: Source, planned: Planned, part: Part) -> None:
    """Add a shard's samples to the hash over all; pixels are read back from what was written."""
    if part.digests or part.shard is None:
        content.add_digests(planned.split, part.digests)
        return
    tar = memoryview((folder / part.shard.name).read_bytes())
    index = read_index(folder, part.shard, source.fields)
    for offsets, sizes in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
        values = {}
        for field, offset, size in zip(index.fields, offsets, sizes, strict=True):
            value = decode(source.fields[field], bytes(tar[offset : offset + size]))
            values[field] = value.transpose(1, 2, 0) if field == "image" else value
        content.add(planned.split, values)


def _refuse(bad: Sequence[tuple[str, str]], total: int, job: Job) -> None:
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


def _finish(
    job: Job, source: Source, splits: Mapping[str, tuple[Shard, ...]], total: Counts, content: Content
) -> Manifest:
    """Write statistics and manifest, here and where the shards were sent."""
    mean, std = total.mean_and_std()
    samples = {split: sum(shard.samples for shard in shards) for split, shards in splits.items()}
    known = DataSpec(source.shapes, source.classes, samples, mean, std, source.synsets)
    description = job.spec.description()
    statistics = write_statistics(job.folder, total)
    manifest = Manifest(
        checksum(description)[:12],
        description,
        source.fields,
        splits,
        known,
        content.hexdigest(),
        statistics=statistics,
    )
    write_manifest(job.folder, manifest)
    if job.sent_to is not None:
        for name in (STATISTICS, MANIFEST):
            job.sent_to.write_file(name, job.folder / name)
    for path in (job.folder / MANIFEST, job.folder):
        sync(path)
    return manifest


def remove_records(folder: Path) -> None:
    """Remove what only an unfinished build needs from the ``folder`` of a finished one."""
    for path in folder.glob("*.json"):
        if path.name not in (MANIFEST, STATISTICS):
            path.unlink()


def write_statistics(folder: Path, total: Counts) -> Sidecar:
    """Write what was counted, for ``expflow data stats``."""
    text = (json.dumps(total.to_json(), separators=(",", ":")) + "\n").encode()
    write_whole(folder / STATISTICS, text)
    return Sidecar(STATISTICS, len(text), sha256(text).hexdigest())


def _written(job: Job, source: Source, planned: Sequence[Planned]) -> Iterator[tuple[Planned, Part]]:
    """Every part in the order of the plan: found from an earlier run, or written now."""
    there = set(job.sent_to.list()) if job.sent_to is not None else set[str]()
    with ThreadPoolExecutor(job.workers) as threads:
        found = list(threads.map(lambda each: find_part(job.folder, each), planned))
    pairs = zip(planned, found, strict=True)
    done = {each.name: part for each, part in pairs if part is not None and _usable(part, there)}
    missing = [each for each in planned if each.name not in done]
    progress = _Progress(job.on_progress, planned, done)
    several = job.workers > 1 and source.portable and len(missing) > 1
    new = _by_processes(job, source, missing, progress) if several else _here(job, source, missing, progress)
    with ThreadPoolExecutor(SENDERS) as senders:
        sending = set[Future[None]]()
        for each in planned:
            part = done.get(each.name) or next(new)
            yield each, part
            if job.sent_to is not None and part.shard is not None and not part.sent:
                sending.add(senders.submit(_send, job.sent_to, job.folder, each, part))
            sending = _wait_for(sending, 2 * SENDERS)
        _wait_for(sending, 0)


def _usable(part: Part, there: set[str]) -> bool:
    """Whether a part that was sent away is still where it was sent to."""
    return not part.sent or part.shard is None or part.shard.name in there


def _wait_for(sending: set[Future[None]], most: int) -> set[Future[None]]:
    """Wait until at most ``most`` are on their way, so that the disk here need not hold them all; returns those."""
    while len(sending) > most:
        arrived, sending = wait(sending, return_when=FIRST_COMPLETED)
        for each in arrived:
            each.result()
    return sending


def _send(root: Root, folder: Path, planned: Planned, part: Part) -> None:
    """Send one shard and its index; its room here is free then, unless its pixels belong into a hash over all."""
    files = [each.name for each in (part.shard, part.shard and part.shard.index) if each is not None]
    for name in files:
        root.write_file(name, folder / name)
    write_record(folder, planned, replace(part, sent=True))
    if part.digests:
        for name in files:
            (folder / name).unlink()


class _Progress:
    """Adds up what is done over the parts of an earlier run, of this process and of others."""

    def __init__(self, report: OnProgress, planned: Sequence[Planned], done: Mapping[str, Part]) -> None:
        self._report, self._total = report, sum(len(each.items) for each in planned)
        self._done = sum(len(each.items) for each in planned if each.name in done)

    def step(self) -> None:
        """One sample more."""
        self._done += 1
        self._report(self._done, self._total)

    def more(self, count: int) -> None:
        """``count`` samples in all were done by other processes."""
        self._report(self._done + count, self._total)


def _here(job: Job, source: Source, missing: Sequence[Planned], progress: _Progress) -> Iterator[Part]:
    for each in missing:
        yield write_part(source.read, source.fields, each, job.folder, progress.step)


def _by_processes(job: Job, source: Source, missing: Sequence[Planned], progress: _Progress) -> Iterator[Part]:
    """Parts in order, written by processes of their own; at most two per process are ahead of the first."""
    context = get_context("spawn")  # a forked child would inherit threads' locks, and the lock on this build
    counter = context.Value("q", 0)
    arguments = (source.read, dict(source.fields), job.folder, counter)
    pool = ProcessPoolExecutor(min(job.workers, len(missing)), context, initializer=_begin, initargs=arguments)
    try:
        futures: dict[int, Future[Part]] = {}
        for number in range(len(missing)):
            for ahead in range(number, min(number + 2 * job.workers, len(missing))):
                if ahead not in futures:
                    futures[ahead] = pool.submit(_work, missing[ahead])
            while not wait([futures[number]], POLL_SECONDS).done:
                progress.more(counter.value)
            progress.more(counter.value)
            yield futures[number].result()
            futures[number] = Future()  # what was handed on need not be kept
    except BrokenProcessPool as error:
        raise Missing(
            "a process of the build died, perhaps for lack of memory; the same command goes on with what is done, and"
            " --workers takes fewer processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """What a process of a build needs for every part."""

    read: Read
    fields: Mapping[str, str]
    folder: Path
    counter: Synchronized[int]


def _begin(read: Read, fields: Mapping[str, str], folder: Path, counter: Any) -> None:
    """Set a process up. It leaves Ctrl-C to its parent, and ends when that is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Worker.read, _Worker.fields, _Worker.folder, _Worker.counter = staticmethod(read), fields, folder, counter


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(planned: Planned) -> Part:
    return write_part(_Worker.read, _Worker.fields, planned, _Worker.folder, _step)


def _step() -> None:
    with _Worker.counter.get_lock():
        _Worker.counter.value += 1
