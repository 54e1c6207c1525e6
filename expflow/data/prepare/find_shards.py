"""Finding shards that are built already, here or at an address, and checking that they are those of the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.data.prepare.prepared import PreparedData, data_key, prepared_data
from expflow.data.prepare.publish import build_folder, disk_errors_named, publish
from expflow.data.shards.manifest import (
    MANIFEST,
    ShardManifest,
    checksum,
    how_to_rebuild,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from expflow.data.shards.verify import size_problems
from expflow.data.source_spec import Origin, ShardedSourceSpec
from expflow.errors import DataInvalid, DataMissing, ShardCorrupt
from expflow.redaction import public_address

if TYPE_CHECKING:
    from expflow.data.stores import Root


def find_manifest(root: Path) -> ShardManifest | None:
    """Return the manifest of what is built in a folder; None where the folder does not exist.

    Args:
        root: the folder.

    Raises:
        ShardCorrupt: the manifest is missing or damaged, or the files have other sizes.
    """
    if not root.exists():
        return None
    try:
        manifest = read_manifest(root)
    except DataMissing as error:
        raise ShardCorrupt(f"{root}: expected {MANIFEST}, found none; {how_to_rebuild(root)}") from error
    if problems := size_problems(root, manifest):
        raise ShardCorrupt(f"{root}: {'; '.join(problems)}; {how_to_rebuild(root)}")
    return manifest


def find_at_origin(spec: ShardedSourceSpec, origin: Origin, cache: Path) -> PreparedData | None:
    """Return the shards with a manifest of ours that lie at a source's origin; None where its files lie there.

    Args:
        spec: the recipe's source.
        origin: folder or address.
        cache: folder in which the manifest of shards at an address is kept.

    Raises:
        DataInvalid: the shards hold other samples than the recipe describes.
        ShardCorrupt: they are damaged.
    """
    if isinstance(origin, Path):
        if not (origin / MANIFEST).is_file():
            return None
        manifest = find_manifest(origin)
        return prepared_data(spec, origin, checked_manifest(spec, origin, manifest)) if manifest is not None else None
    if origin is None:
        return None
    from expflow.data.stores import open_root

    root = open_root(origin)
    try:
        content = root.read_bytes(MANIFEST)
    except DataMissing:
        return None
    manifest = checked_manifest(spec, root.address, parse_manifest(content, f"{root.address}/{MANIFEST}"))
    return prepared_data(spec, *_keep_manifest(spec, cache, origin, root, manifest))


def checked_manifest(spec: ShardedSourceSpec, where: Path | str, manifest: ShardManifest) -> ShardManifest:
    """Return a manifest if it is of the samples that a recipe describes.

    Args:
        spec: the recipe's source; the description of shards of others is not compared.
        where: folder or address of the manifest, for messages.
        manifest: the manifest.

    Raises:
        DataInvalid: it is of other samples; the message says what differs.
    """
    if spec.in_place or manifest.key == data_key(spec, manifest.reading):
        return manifest
    here, there = spec.description(), dict(manifest.source)
    keys = [key for key in sorted({*here, *there}) if here.get(key) != there.get(key)]
    differences = "; ".join(
        f"{key} is {there.get(key, 'default')} there, {here.get(key, 'default')} here" for key in keys
    )
    raise DataInvalid(
        f"{where} holds other shards than the recipe asks for: {differences}. Build it elsewhere, or change it"
    )


def find_built_by_command(spec: ShardedSourceSpec, cache: Path, origin: Origin) -> PreparedData:
    """Return what ``expflow data build`` built in the cache from files whose place the recipe does not say.

    Args:
        spec: the recipe's source, which only that command may build.
        cache: folder of the built data.
        origin: where its files lie; None where that is not known.

    Raises:
        DataMissing: nothing was built, or it was built several times.
        ShardCorrupt: what was built is damaged.
    """
    places = sorted(cache.resolve().glob(f"{spec.name}-*/{MANIFEST}")) if origin is None else []
    roots = [path.parent for path in places if read_manifest(path.parent).key == data_key(spec)]
    manifest = find_manifest(roots[0]) if len(roots) == 1 else None
    if manifest is not None:
        return prepared_data(spec, roots[0], manifest)
    if roots:
        raise DataMissing(f"several {spec.name} were built: {', '.join(map(str, roots))}; name one in the site file")
    raise DataMissing(
        f"the shards of {spec.name} are not built yet, and that takes long: run `expflow data build FILE --from"
        f" {printable_origin(origin) or 'FOLDER'}` with the experiment's file first. For who has no files: {spec.where}"
    )


def _keep_manifest(
    spec: ShardedSourceSpec, cache: Path, address: str, source: Root, manifest: ShardManifest
) -> tuple[Path, ShardManifest]:
    """A folder of this machine with the manifest of shards that lie at ``address``.

    The shards themselves come when they are read, whole; so what lies where in them need not be fetched before.
    """
    from expflow.data.stores.signed_urls import without_query

    without = {split: tuple(replace(shard, index=None) for shard in part) for split, part in manifest.splits.items()}
    manifest = replace(manifest, at=without_query(address), splits=without)
    root = cache.resolve() / f"{spec.name}-{checksum(manifest.to_json())[:16]}"
    if not root.exists():
        with disk_errors_named(spec.name, cache), build_folder(root.with_name(f".{root.name}.building")) as folder:
            if not root.exists():
                if manifest.statistics is not None:
                    (folder / manifest.statistics.name).write_bytes(source.read_bytes(manifest.statistics.name))
                write_manifest(folder, manifest)
                publish(folder, root)
    keep_signed_query(root, address)
    return root, manifest


def keep_signed_query(root: Path, origin: Origin) -> None:
    """Keep the signed query of an address for this process and its ranks: the manifest names the address without it.

    Args:
        root: folder of the manifest.
        origin: where the shards lie; nothing is kept for a folder.
    """
    if isinstance(origin, str):
        from expflow.data.stores.signed_urls import keep_query

        keep_query(origin)
        (root / ".query").unlink(missing_ok=True)  # where earlier versions kept it


def printable_origin(origin: Origin) -> str:
    """Return an origin for messages and hashes: an address without secrets, "" where none is known.

    Args:
        origin: folder, address or None.
    """
    if not isinstance(origin, str):
        return str(origin or "")
    return public_address(origin)
