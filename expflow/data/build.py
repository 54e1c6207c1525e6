"""Preparing data: a source becomes shards and a manifest, once, in a folder named by its content.

A build happens in a hidden folder beside the final one, under a lock; its files are fsynced, the manifest is written
last, and one rename makes it visible. A killed build leaves the hidden folder, with which the next one goes on. A
process that finds the data built imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.data.augment.sizes import seen_by_model
from expflow.data.dataspec import DataSpec
from expflow.data.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    checksum,
    how_to_rebuild,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from expflow.data.places import building, clear, publish
from expflow.data.read import missized
from expflow.data.specs import Origin, Shards
from expflow.data.specs import Source as SourceSpec
from expflow.errors import DataInvalid, DataMissing, ShardCorrupt, StorageUnwritable, UserError
from expflow.registry import load_dotted

if TYPE_CHECKING:
    from expflow.data.stores import Root

OnProgress = Callable[[int, int], None]
"""Called with the samples that are done and those there are."""


@dataclass(frozen=True)
class Prepared:
    """Data that are ready: the folder of their manifest, the manifest, what a model needs to know, and the data key.

    ``spec`` is the manifest's with the recipe's ``limit`` and ``image_size`` applied.
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
    site_path: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """The shards of ``spec``: found, or built below ``cache`` by exactly one of the processes that ask at once.

    ``folder`` is where relative paths start (the YAML's folder), ``site_path`` where the site file says this source
    lies; if that is a folder or an address of shards, they are used. Raises DataMissing when the source's files are
    not there, DataInvalid when they cannot be used (all of them are named) and ShardCorrupt when what was built before
    is damaged.
    """
    origin = spec.origin(folder, site_path)
    if (ready := _ready(spec, origin, cache)) is not None:
        return ready
    if origin is None and _downloads(spec, cache).is_dir():
        origin = _downloads(spec, cache)
    root = _root(spec, cache, origin)
    manifest = _find(root)
    if manifest is None and spec.takes_hours:
        return _built_by_command(spec, cache, origin)
    if manifest is None:
        manifest = _build_in_cache(spec, cache, origin, root, 1, on_progress)
    _keep_query(root, origin)
    return _prepared(spec, root, manifest)


def build(
    spec: SourceSpec,
    *,
    cache: Path,
    folder: Path | None = None,
    site_path: Path | str | None = None,
    out: str | None = None,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """As :func:`prepare`, with ``workers`` processes, and fetching files that anyone may fetch.

    ``out`` is a folder or an address to build in instead of the cache; what is there already is used if it is what
    would be built, and refused otherwise. A killed build is gone on with.
    """
    origin = spec.origin(folder, site_path)
    if (ready := _ready(spec, origin, cache)) is not None:
        if out is not None:
            raise UserError(
                f"{_shown(origin)} holds shards already; copy them to {out}, or name the folder of the files"
            )
        return ready
    if origin is None and spec.fetched:
        origin = load_dotted(spec.fetched)(spec.name, _downloads(spec, cache))
    if out is None:
        root = _root(spec, cache, origin)
        manifest = _find(root) or _build_in_cache(spec, cache, origin, root, workers, on_progress)
        _keep_query(root, origin)
        return _prepared(spec, root, manifest)
    if "://" in out:
        return _build_remote(spec, cache, origin, out, workers, on_progress)
    return _build_at(spec, origin, Path(out).expanduser().absolute(), workers, on_progress)


def supposed(spec: SourceSpec) -> Prepared | None:
    """A stand-in, without shards, for data that are not on this machine; None where only their files say what they are.

    Raises UserError as :func:`data_spec`.
    """
    if spec.published is None:
        return None
    return _prepared(spec, Path(), Manifest(data_key(spec), spec.description(), {}, {}, spec.published, content=""))


def root_of(spec: SourceSpec, *, cache: Path, folder: Path | None = None, site_path: Path | str | None = None) -> Path:
    """Where :func:`prepare` finds or builds the shards of ``spec``. Builds nothing; raises as :func:`prepare` does."""
    return _root(spec, cache, spec.origin(folder, site_path))


def limited(spec: DataSpec, limit: int | None) -> DataSpec:
    """``spec`` with at most ``limit`` training samples."""
    if limit is None or "train" not in spec.samples:
        return spec
    return replace(spec, samples={**spec.samples, "train": min(limit, spec.samples["train"])})


def data_spec(manifest: Manifest, spec: SourceSpec) -> DataSpec:
    """What a model needs to know that is trained by ``spec`` on these shards. Raises UserError where no size fits."""
    return seen_by_model(limited(manifest.spec, spec.limit), spec)


def as_used(data: Prepared, spec: SourceSpec) -> Prepared:
    """``data`` as another recipe uses them, which describes the same samples. Raises UserError as :func:`data_spec`."""
    return replace(data, spec=data_spec(data.manifest, spec))


def _prepared(spec: SourceSpec, root: Path, manifest: Manifest) -> Prepared:
    return Prepared(root, manifest, data_spec(manifest, spec), data_key(spec))


def _root(spec: SourceSpec, cache: Path, origin: Origin) -> Path:
    """Named by the description and, where the source has files, each one's path, size and time of change."""
    address = checksum({"format": FORMAT, "key": data_key(spec), "files": spec.stamps(origin)})[:16]
    return cache.resolve() / f"{spec.name}-{address}"


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


def _ready(spec: SourceSpec, origin: Origin, cache: Path) -> Prepared | None:
    """What is at ``origin`` if that is shards with a manifest of ours; None where it is a source's files."""
    if isinstance(origin, Path):
        if not (origin / MANIFEST).is_file():
            return None
        manifest = _find(origin)
        return _prepared(spec, origin, _matching(spec, origin, manifest)) if manifest is not None else None
    if origin is None:
        return None
    from expflow.data.stores import open_root

    root = open_root(origin)
    try:
        content = root.read_bytes(MANIFEST)
    except DataMissing:
        return None
    manifest = _matching(spec, root.address, parse_manifest(content, f"{root.address}/{MANIFEST}"))
    return _prepared(spec, *_kept(spec, cache, origin, root, manifest))


def _matching(spec: SourceSpec, where: Path | str, manifest: Manifest) -> Manifest:
    """``manifest`` if it is of the samples that ``spec`` describes. Raises DataInvalid, saying what differs."""
    if isinstance(spec, Shards) or manifest.key == data_key(spec):
        return manifest
    asked, there = spec.description(), dict(manifest.source)
    differing = [key for key in sorted({*asked, *there}) if asked.get(key) != there.get(key)]
    said = "; ".join(
        f"{key} is {there.get(key, 'default')} there, {asked.get(key, 'default')} here" for key in differing
    )
    raise DataInvalid(f"{where} holds other shards than the recipe asks for: {said}. Build it elsewhere, or change it")


def _kept(spec: SourceSpec, cache: Path, address: str, source: Root, manifest: Manifest) -> tuple[Path, Manifest]:
    """A folder of this machine with the manifest of shards that lie at ``address``.

    The shards themselves come when they are read, whole; so what lies where in them need not be fetched before.
    """
    without = {split: tuple(replace(each, index=None) for each in part) for split, part in manifest.splits.items()}
    from expflow.data.stores.signed import bare

    manifest = replace(manifest, at=bare(address), splits=without)
    root = cache.resolve() / f"{spec.name}-{checksum(manifest.to_json())[:16]}"
    if not root.exists():
        with _storage(spec, cache), building(root.with_name(f".{root.name}.building")) as work:
            if not root.exists():
                if manifest.statistics is not None:
                    (work / manifest.statistics.name).write_bytes(source.read_bytes(manifest.statistics.name))
                write_manifest(work, manifest)
                publish(work, root)
    _keep_query(root, address)
    return root, manifest


def _keep_query(root: Path, origin: Origin) -> None:
    if isinstance(origin, str):
        from expflow.data.stores.signed import keep_query

        keep_query(root, origin)


def _shown(origin: Origin) -> str:
    if not isinstance(origin, str):
        return str(origin or "")
    from expflow.data.stores.address import shown

    return shown(origin)


def _built_by_command(spec: SourceSpec, cache: Path, origin: Origin) -> Prepared:
    """What ``expflow data build`` built from files that nobody names now. Raises DataMissing where it is not one."""
    places = sorted(cache.resolve().glob(f"{spec.name}-*/{MANIFEST}")) if origin is None else []
    found = [path.parent for path in places if read_manifest(path.parent).key == data_key(spec)]
    manifest = _find(found[0]) if len(found) == 1 else None
    if manifest is not None:
        return _prepared(spec, found[0], manifest)
    if found:
        raise DataMissing(f"several {spec.name} were built: {', '.join(map(str, found))}; name one in the site file")
    raise DataMissing(
        f"the shards of {spec.name} are not built yet, and that takes long: run `expflow data build FILE --from"
        f" {_shown(origin) or 'FOLDER'}` with the experiment's file first. For who has no files: {spec.where}"
    )


def _downloads(spec: SourceSpec, cache: Path) -> Path:
    return cache.resolve() / "downloads" / spec.name


def _build_in_cache(
    spec: SourceSpec, cache: Path, origin: Origin, root: Path, workers: int, on_progress: OnProgress | None
) -> Manifest:
    """Build ``root``, unless another process did so while this one waited for the lock.

    The hidden folder is named by description and place alone: when files were mended, what is done remains.
    """
    work = checksum({"format": FORMAT, "key": data_key(spec), "origin": _shown(origin)})[:16]
    with _storage(spec, cache), building(root.with_name(f".{spec.name}-{work}.building")) as folder:
        return _find(root) or _write(spec, origin, folder, root, workers, on_progress)


def _build_at(spec: SourceSpec, origin: Origin, root: Path, workers: int, on_progress: OnProgress | None) -> Prepared:
    """Build in the folder ``root``. Raises UserError where something else is in it."""
    with _storage(spec, root.parent), building(root.with_name(f".{root.name}.building")) as folder:
        if root.exists() and not (root / MANIFEST).is_file() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and holds no shards; choose another folder for --out")
        manifest = _find(root) if (root / MANIFEST).is_file() else None
        if manifest is None:
            return _prepared(spec, root, _write(spec, origin, folder, root, workers, on_progress))
    return _prepared(spec, root, _matching(spec, root, manifest))


def _build_remote(
    spec: SourceSpec, cache: Path, origin: Origin, out: str, workers: int, on_progress: OnProgress | None
) -> Prepared:
    """Build in the cache, sending each finished shard to ``out`` and the manifest last."""
    from expflow.data.building import Job, write_everything
    from expflow.data.stores import open_root

    if (ready := _ready(spec, out, cache)) is not None:
        return ready
    work = checksum({"format": FORMAT, "key": data_key(spec), "origin": _shown(origin), "out": out})[:16]
    root = cache.resolve() / f".{spec.name}-{work}.building"
    with _storage(spec, cache), building(root) as folder:
        write_everything(Job(spec, origin, folder, workers, open_root(out), on_progress or _silent))
        clear(folder)
    ready = _ready(spec, out, cache)
    if ready is None:
        raise StorageUnwritable(f"{out}: the manifest was written there, and is not there")
    return ready


def _write(
    spec: SourceSpec, origin: Origin, folder: Path, root: Path, workers: int, on_progress: OnProgress | None
) -> Manifest:
    """Write the shards, or the index of those that are there, into ``folder``, which then becomes ``root``."""
    from expflow.data.building import Job, remove_records, write_everything
    from expflow.data.sources.foreign import index_everything

    write = index_everything if isinstance(spec, Shards) else write_everything
    manifest = write(Job(spec, origin, folder, workers, on_progress=on_progress or _silent))
    publish(folder, root)
    remove_records(root)
    return manifest


def _silent(done: int, total: int) -> None:
    pass


@contextmanager
def _storage(spec: SourceSpec, place: Path) -> Iterator[None]:
    """Say an error of the disk as one."""
    try:
        yield
    except OSError as error:
        raise StorageUnwritable(
            f"cannot build the shards of {spec.name} in {place}: {error}; mend that, and the same command goes on with"
            " what is done"
        ) from error
