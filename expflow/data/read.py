"""Holding shards against their manifest: what differs from it is an error, never a silently shorter epoch."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from expflow.data.manifest import Manifest, Shard, Sidecar, how_to_rebuild, read_manifest
from expflow.errors import DataMissing, ExpflowError, ShardCorrupt

Sample = tuple[str, dict[str, bytes]]
"""A sample's key, and the encoded bytes of each of its fields."""


def read_shard(root: Path, shard: Shard, fields: Mapping[str, str], *, extras: bool = False) -> list[Sample]:
    """All samples of one shard, in order; ``fields`` maps a field to its extension.

    The whole file is held against the manifest's size and sha256 before a single member is parsed. ``extras``: it may
    hold members that are no fields. Raises ShardCorrupt, naming the shard, what was expected and what was found.
    """
    from expflow.data.index import index_tar

    try:
        content = (root / shard.name).read_bytes()
        if problem := _differs(len(content), hashlib.sha256(content).hexdigest(), shard):
            raise ValueError(problem)
        index = index_tar(content, fields, extras=extras)
        if len(index) != shard.samples:
            raise ValueError(f"expected {shard.samples} samples, found {len(index)}")
    except (OSError, ValueError) as error:
        said = f"expected {shard.bytes} bytes, found no readable file" if isinstance(error, OSError) else error
        raise ShardCorrupt(f"{root / shard.name}: {said}; {how_to_rebuild(root)}") from error
    columns = zip(index.keys, index.offsets.tolist(), index.sizes.tolist(), strict=True)
    return [
        (key, {field: content[at : at + size] for field, at, size in zip(fields, offsets, sizes, strict=True)})
        for key, offsets, sizes in columns
    ]


def _differs(size: int, sha256: str, expected: Shard | Sidecar) -> str:
    """How a file differs from what was written; "" where it does not."""
    if size != expected.bytes:
        return f"expected {expected.bytes} bytes, found {size}"
    return "" if sha256 == expected.sha256 else f"expected sha256 {expected.sha256}, found {sha256}"


def local_place(root: Path, manifest: Manifest) -> Path | None:
    """The folder of the shards themselves; None where they lie elsewhere than on this machine."""
    return None if "://" in manifest.at else Path(manifest.at) if manifest.at else root


def missized(root: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the shards' files by name and size alone: the quick look before they are used."""
    place, problems = local_place(root, manifest), list[str]()
    if place is None:
        return []
    for shard in manifest.all_shards():
        try:
            found = (place / shard.name).stat().st_size
        except OSError:
            problems.append(f"{shard.name}: expected {shard.bytes} bytes, found no file")
            continue
        if found != shard.bytes:
            problems.append(f"{shard.name}: expected {shard.bytes} bytes, found {found}")
    return problems


def verify(root: Path, on_progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Read everything under ``root`` and say all that differs from the manifest; empty when nothing does.

    ``on_progress`` is called with the bytes that were read and those there are. Raises DataMissing without a manifest
    and ShardCorrupt where the manifest itself is damaged.
    """
    manifest = read_manifest(root)
    shards = manifest.all_shards()
    by_hash = {shard.sha256: shard.name for shard in shards}
    total, done, problems = sum(shard.bytes for shard in shards), 0, list[str]()
    for shard in shards:
        problems += _problems(root, shard, manifest, by_hash)
        done += shard.bytes
        if on_progress is not None:
            on_progress(done, total)
    problems += _problem_of_sidecar(root, manifest.statistics)
    return problems + ([] if manifest.at else [f"{name}: not in the manifest" for name in _strangers(root, shards)])


def _strangers(root: Path, shards: Sequence[Shard]) -> list[str]:
    known = {shard.name for shard in shards}
    return sorted(path.name for path in root.glob("*.tar") if path.name not in known)


def _problem_of_sidecar(root: Path, sidecar: Sidecar | None) -> list[str]:
    if sidecar is None:
        return []
    try:
        content = (root / sidecar.name).read_bytes()
    except OSError:
        return [f"{sidecar.name}: expected {sidecar.bytes} bytes, found no readable file"]
    problem = _differs(len(content), hashlib.sha256(content).hexdigest(), sidecar)
    return [f"{sidecar.name}: {problem}"] if problem else []


def _problems(root: Path, shard: Shard, manifest: Manifest, by_hash: Mapping[str, str]) -> list[str]:
    """What is wrong with one shard and its index."""
    from expflow.data.index import index_tar, read_index

    found = _problem_of_sidecar(root, shard.index)
    try:
        with at_hand(root, shard, manifest) as path:
            size, sha256 = hash_of(path)
            if problem := _differs(size, sha256, shard):
                other = by_hash.get(sha256)
                return [*found, f"{shard.name}: {problem}" + (f" (it holds {other})" if other else "")]
            with mapped(path) as content:
                index = index_tar(content, manifest.fields, extras=bool(manifest.at))
        if len(index) != shard.samples:
            return [*found, f"{shard.name}: expected {shard.samples} samples, found {len(index)}"]
        if shard.index is not None and not found:
            said = read_index(root, shard, manifest.fields)
            if index.to_bytes() != said.to_bytes():
                return [f"{shard.index.name}: it does not say where the samples of {shard.name} lie"]
    except OSError:
        return [*found, f"{shard.name}: expected {shard.bytes} bytes, found no readable file"]
    except (ValueError, ExpflowError) as error:
        return [*found, f"{shard.name}: {error}"]
    return found


@contextmanager
def at_hand(root: Path, shard: Shard, manifest: Manifest) -> Iterator[Path]:
    """The file of ``shard``, copied here for as long as the context lasts where it lies elsewhere."""
    place = local_place(root, manifest)
    if place is not None:
        yield place / shard.name
        return
    from expflow.data.stores import open_root
    from expflow.data.stores.signed import with_query

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.tar"
        try:
            open_root(with_query(root, manifest.at)).download(shard.name, path)
        except DataMissing as error:
            raise FileNotFoundError(str(error)) from error
        yield path


def hash_of(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """A file's content as a view, without reading it. Raises OSError, and ValueError where it is empty."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with memoryview(content) as view:
        yield view
