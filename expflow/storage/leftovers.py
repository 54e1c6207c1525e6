"""Removes what no manifest names: objects of processes that were killed between an object and its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from expflow.errors import LedgerDamaged
from expflow.storage.blob_store import BlobStore
from expflow.storage.driver_claim import LOCKS
from expflow.storage.folder_fetch import TRIALS, newest_manifest
from expflow.storage.folder_manifest import FolderManifest
from expflow.storage.folder_mirror import MANIFESTS

AT_ONCE = 8


def remove_leftovers(store: BlobStore, prefix: str, *, epoch: int, trials: Iterable[str] | None = None) -> int:
    """Remove objects of an experiment that belong to nothing. Called by its driver, while no rank of its own works.

    Args:
        store: The store.
        prefix: Key of the experiment's folder there.
        epoch: The driver's epoch; what later ones wrote stays.
        trials: Names of the trials' folders that are looked at; None for all.

    Returns:
        How many objects were removed.
    """
    keys = sorted(store.objects(prefix))
    folders = {key.removeprefix(f"{prefix}/{TRIALS}/").partition("/")[0] for key in keys if f"/{TRIALS}/" in key}
    looked_at = folders if trials is None else folders & set(trials)
    prefixes = [prefix, *(f"{prefix}/{TRIALS}/{folder}" for folder in sorted(looked_at))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        manifests = dict(zip(prefixes, pool.map(lambda key: _manifest(store, key), prefixes), strict=True))
    gone = [key for key in keys if _is_leftover(key, prefix, manifests, epoch)]
    store.delete(gone)
    return len(gone)


def _manifest(store: BlobStore, prefix: str) -> FolderManifest | None:
    try:
        return newest_manifest(store, prefix)
    except LedgerDamaged:  # whoever reads it says so; nothing of it is removed
        return None


def _is_leftover(key: str, prefix: str, manifests: dict[str, FolderManifest | None], epoch: int) -> bool:
    rest = key.removeprefix(f"{prefix}/")
    folder = prefix
    if rest.startswith(f"{TRIALS}/"):
        folder = f"{prefix}/{TRIALS}/{rest.split('/')[1]}"
        rest = rest.split("/", 2)[-1]
    manifest = manifests.get(folder)
    if rest.startswith(f"{LOCKS}/"):
        return not rest.endswith(".json")  # probes
    if manifest is None or _epoch_of(rest) > epoch:
        return False
    if rest.startswith(f"{MANIFESTS}/"):
        return PurePosixPath(rest).stem != manifest.tag
    return key not in manifest.object_keys()


def _epoch_of(key: str) -> int:
    """The epoch in a key's tag; 0 where it has none."""
    tag = PurePosixPath(key).stem if key.startswith(f"{MANIFESTS}/") else key.rpartition("~")[2]
    return int(tag[:6]) if tag[:6].isdigit() else 0
