"""Preparing data: a source becomes shards and a manifest, once, in a folder named by its content.

A build happens in a hidden folder beside the final one, under a lock; its files are fsynced, the manifest is written
last, and one rename makes it visible. A killed build leaves the hidden folder, with which the next one goes on. A
process that finds the data built imports neither numpy nor torch.
"""

from __future__ import annotations

from pathlib import Path

from expflow.data.prepare.find_shards import (
    checked_manifest,
    find_at_origin,
    find_built_by_command,
    find_manifest,
    keep_signed_query,
    printable_origin,
)
from expflow.data.prepare.prepared import OnProgress, PreparedData, data_key, prepared_data
from expflow.data.prepare.publish import build_folder, disk_errors_named, publish, remove_files
from expflow.data.shards.manifest import FORMAT, MANIFEST, ShardManifest, checksum
from expflow.data.source_spec import Origin, ShardedSourceSpec
from expflow.errors import StorageUnwritable, UserError
from expflow.registry import load_dotted


def prepare(
    spec: ShardedSourceSpec,
    *,
    cache: Path,
    folder: Path | None = None,
    site_path: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> PreparedData:
    """Find the shards of a source, or build them by exactly one of the processes that ask at once.

    Args:
        spec: the recipe's source.
        cache: folder below which shards are built.
        folder: where relative paths start (the YAML's folder).
        site_path: where the site file says that this source lies; if that is a folder or an address of shards, they
            are used.
        on_progress: called with the samples that are written and those that there are.

    Raises:
        DataMissing: the source's files are not there.
        DataInvalid: they cannot be used; all bad ones are named.
        ShardCorrupt: what was built before is damaged.
        StorageUnwritable: the disk refuses.
        UserError: no image size fits the stored images.
    """
    origin = spec.origin(folder, site_path)
    if (existing := find_at_origin(spec, origin, cache)) is not None:
        return existing
    if origin is None and _downloads(spec, cache).is_dir():
        origin = _downloads(spec, cache)
    return _find_or_build_in_cache(spec, cache, origin, 1, on_progress, may_build=not spec.takes_hours)


def build(
    spec: ShardedSourceSpec,
    *,
    cache: Path,
    folder: Path | None = None,
    site_path: Path | str | None = None,
    out: str | None = None,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> PreparedData:
    """Do as :func:`prepare`, with several processes, and fetch files that anyone may fetch.

    Args:
        spec: the recipe's source.
        cache: folder below which shards are built unless ``out`` is given.
        folder: where relative paths start (the YAML's folder).
        site_path: where the site file says that this source lies.
        out: folder or address to build in instead of the cache. Shards that are there are used if they are the same.
        workers: number of processes that write shards.
        on_progress: called with the samples that are written and those that there are.

    Raises:
        UserError: ``out`` is given and the origin holds shards already, or ``out`` holds something else.
        ExpflowError: as :func:`prepare`.
    """
    origin = spec.origin(folder, site_path)
    if (existing := find_at_origin(spec, origin, cache)) is not None:
        if out is not None:
            raise UserError(
                f"{printable_origin(origin)} holds shards already; copy them to {out}, or name the folder of the files"
            )
        return existing
    if origin is None and spec.fetched:
        origin = load_dotted(spec.fetched)(spec.name, _downloads(spec, cache))
    if out is None:
        return _find_or_build_in_cache(spec, cache, origin, workers, on_progress)
    if "://" in out:
        return _build_at_address(spec, cache, origin, out, workers, on_progress)
    return _build_at_folder(spec, origin, Path(out).expanduser().absolute(), workers, on_progress)


def _root_in_cache(spec: ShardedSourceSpec, cache: Path, origin: Origin) -> Path:
    """Named by the description and, where the source has files, each one's path, size and time of change."""
    address = checksum({"format": FORMAT, "key": data_key(spec), "files": spec.stamps(origin)})[:16]
    return cache.resolve() / f"{spec.name}-{address}"


def _downloads(spec: ShardedSourceSpec, cache: Path) -> Path:
    return cache.resolve() / "downloads" / spec.name


def _find_or_build_in_cache(
    spec: ShardedSourceSpec,
    cache: Path,
    origin: Origin,
    workers: int,
    on_progress: OnProgress | None,
    *,
    may_build: bool = True,
) -> PreparedData:
    root = _root_in_cache(spec, cache, origin)
    manifest = find_manifest(root)
    if manifest is None and not may_build:
        return find_built_by_command(spec, cache, origin)
    manifest = manifest or _build_in_cache(spec, cache, origin, root, workers, on_progress)
    keep_signed_query(root, origin)
    return prepared_data(spec, root, manifest)


def _build_in_cache(
    spec: ShardedSourceSpec, cache: Path, origin: Origin, root: Path, workers: int, on_progress: OnProgress | None
) -> ShardManifest:
    """Build ``root``, unless another process did so while this one waited for the lock.

    The hidden folder is named by description and place alone: when files were mended, what is done remains.
    """
    work = checksum({"format": FORMAT, "key": data_key(spec), "origin": printable_origin(origin)})[:16]
    hidden = root.with_name(f".{spec.name}-{work}.building")
    with disk_errors_named(spec.name, cache), build_folder(hidden) as folder:
        return find_manifest(root) or _write(spec, origin, folder, root, workers, on_progress)


def _build_at_folder(
    spec: ShardedSourceSpec, origin: Origin, root: Path, workers: int, on_progress: OnProgress | None
) -> PreparedData:
    """Build in the folder ``root``. Raises UserError where something else is in it."""
    hidden = root.with_name(f".{root.name}.building")
    with disk_errors_named(spec.name, root.parent), build_folder(hidden) as folder:
        if root.exists() and not (root / MANIFEST).is_file() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and holds no shards; choose another folder for --out")
        manifest = find_manifest(root) if (root / MANIFEST).is_file() else None
        if manifest is None:
            return prepared_data(spec, root, _write(spec, origin, folder, root, workers, on_progress))
    return prepared_data(spec, root, checked_manifest(spec, root, manifest))


def _build_at_address(
    spec: ShardedSourceSpec, cache: Path, origin: Origin, out: str, workers: int, on_progress: OnProgress | None
) -> PreparedData:
    """Build in the cache, sending each finished shard to ``out`` and the manifest last."""
    from expflow.data.prepare.shard_jobs import BuildJob, write_shards
    from expflow.data.stores import open_root

    if (existing := find_at_origin(spec, out, cache)) is not None:
        return existing
    work = checksum({"format": FORMAT, "key": data_key(spec), "origin": printable_origin(origin), "out": out})[:16]
    hidden = cache.resolve() / f".{spec.name}-{work}.building"
    with disk_errors_named(spec.name, cache), build_folder(hidden) as folder:
        write_shards(BuildJob(spec, origin, folder, workers, open_root(out), on_progress or _ignore_progress))
        remove_files(folder)
    written = find_at_origin(spec, out, cache)
    if written is None:
        raise StorageUnwritable(f"{out}: the manifest was written there, and is not there")
    return written


def _write(
    spec: ShardedSourceSpec, origin: Origin, folder: Path, root: Path, workers: int, on_progress: OnProgress | None
) -> ShardManifest:
    """Write the shards, or the index of those that are there, into ``folder``, which then becomes ``root``."""
    from expflow.data.prepare.shard_jobs import BuildJob, remove_build_records, write_shards
    from expflow.data.sources.existing_shards import index_shards

    write = index_shards if spec.in_place else write_shards
    manifest = write(BuildJob(spec, origin, folder, workers, on_progress=on_progress or _ignore_progress))
    publish(folder, root)
    remove_build_records(root)
    return manifest


def _ignore_progress(done: int, total: int) -> None:
    pass
