"""Checking shards against their manifest: what differs from it is an error, never a silently shorter epoch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from expflow.data.shards.files import memory_mapped, size_and_sha256
from expflow.data.shards.manifest import LARGEST_MANIFEST, ShardEntry, ShardManifest, Sidecar, read_manifest
from expflow.errors import DataMissing, ExpflowError
from expflow.files import read_bounded


def local_shards_folder(root: Path, manifest: ShardManifest) -> Path | None:
    """Return the folder of the shards themselves; None where they lie elsewhere than on this machine.

    Args:
        root: folder of the manifest.
        manifest: the manifest in it.
    """
    return None if "://" in manifest.at else Path(manifest.at) if manifest.at else root


def size_problems(root: Path, manifest: ShardManifest) -> list[str]:
    """Check the shards' files by name and size alone, which is quick enough to be done before every use.

    Args:
        root: folder of the manifest.
        manifest: the manifest in it.

    Returns:
        A line per file that is missing or has another size; none where the shards do not lie on this machine.
    """
    folder, problems = local_shards_folder(root, manifest), list[str]()
    if folder is None:
        return []
    for shard in manifest.all_shards():
        try:
            size = (folder / shard.name).stat().st_size
        except OSError:
            problems.append(f"{shard.name}: expected {shard.bytes} bytes, found no file")
            continue
        if size != shard.bytes:
            problems.append(f"{shard.name}: expected {shard.bytes} bytes, found {size}")
    return problems


def verify_shards(root: Path, on_progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Read all shards and indexes of a folder and compare them with the manifest.

    Args:
        root: folder of the manifest.
        on_progress: called with the bytes that were read, and those that there are.

    Returns:
        A line per difference; none where everything is as it was written.

    Raises:
        DataMissing: there is no manifest.
        ShardCorrupt: the manifest itself is damaged.
    """
    manifest = read_manifest(root)
    shards = manifest.all_shards()
    by_hash = {shard.sha256: shard.name for shard in shards}
    total, done, problems = sum(shard.bytes for shard in shards), 0, list[str]()
    for shard in shards:
        problems += _shard_problems(root, shard, manifest, by_hash)
        done += shard.bytes
        if on_progress is not None:
            on_progress(done, total)
    problems += _sidecar_problems(root, manifest.statistics)
    return problems + ([] if manifest.at else [f"{name}: not in the manifest" for name in _unlisted(root, shards)])


def _unlisted(root: Path, shards: Sequence[ShardEntry]) -> list[str]:
    """Names of the tars in ``root`` that the manifest does not list."""
    known = {shard.name for shard in shards}
    return sorted(path.name for path in root.glob("*.tar") if path.name not in known)


def _difference(size: int, sha256: str, expected: ShardEntry | Sidecar) -> str:
    """How a file differs from what was written; "" where it does not."""
    if size != expected.bytes:
        return f"expected {expected.bytes} bytes, found {size}"
    return "" if sha256 == expected.sha256 else f"expected sha256 {expected.sha256}, found {sha256}"


def _sidecar_problems(root: Path, sidecar: Sidecar | None) -> list[str]:
    if sidecar is None:
        return []
    try:
        content = read_bounded(root / sidecar.name, max(sidecar.bytes, LARGEST_MANIFEST))
    except OSError:
        return [f"{sidecar.name}: expected {sidecar.bytes} bytes, found no readable file"]
    problem = _difference(len(content), hashlib.sha256(content).hexdigest(), sidecar)
    return [f"{sidecar.name}: {problem}"] if problem else []


def _shard_problems(root: Path, shard: ShardEntry, manifest: ShardManifest, by_hash: Mapping[str, str]) -> list[str]:
    """What is wrong with one shard and its index."""
    from expflow.data.shards.index import index_tar, read_index

    problems = _sidecar_problems(root, shard.index)
    try:
        with local_shard_file(root, shard, manifest) as path:
            size, sha256 = size_and_sha256(path)
            if problem := _difference(size, sha256, shard):
                other = by_hash.get(sha256)
                return [*problems, f"{shard.name}: {problem}" + (f" (it holds {other})" if other else "")]
            with memory_mapped(path) as content:
                index = index_tar(content, manifest.fields, extras=bool(manifest.at))
        if len(index) != shard.samples:
            return [*problems, f"{shard.name}: expected {shard.samples} samples, found {len(index)}"]
        if shard.index is not None and not problems:
            stored = read_index(root, shard, manifest.fields)
            if index.to_bytes() != stored.to_bytes():
                return [f"{shard.index.name}: it does not say where the samples of {shard.name} lie"]
    except OSError:
        return [*problems, f"{shard.name}: expected {shard.bytes} bytes, found no readable file"]
    except (ValueError, ExpflowError) as error:
        return [*problems, f"{shard.name}: {error}"]
    return problems


@contextmanager
def local_shard_file(root: Path, shard: ShardEntry, manifest: ShardManifest) -> Iterator[Path]:
    """Give the file of a shard; one that lies elsewhere is copied to this machine for as long as the context lasts.

    Args:
        root: folder of the manifest.
        shard: the shard's entry in it.
        manifest: the manifest.

    Raises:
        FileNotFoundError: it is not at the address that the manifest names.
    """
    folder = local_shards_folder(root, manifest)
    if folder is not None:
        yield folder / shard.name
        return
    from expflow.data.stores import open_root
    from expflow.data.stores.signed_urls import with_query

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "shard.tar"
        try:
            open_root(with_query(manifest.at)).download(shard.name, path)
        except DataMissing as error:
            raise FileNotFoundError(str(error)) from error
        yield path
