"""Makes a local folder as a manifest of the store describes it. Every byte is verified; what is here is kept."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from expflow.errors import LedgerDamaged
from expflow.storage.blob_store import BlobStore
from expflow.storage.folder_manifest import FolderManifest, Part
from expflow.storage.folder_mirror import BUNDLED_BYTES, MANIFESTS, MARKER, FolderMarker

TRIALS = "trials"
"""Below an experiment's folder: the trials' folders, each with manifests of its own."""
TRIES = 5
"""How often a folder is fetched anew whose writer replaced objects meanwhile."""

Fetched = TypeVar("Fetched")


class _Replaced(Exception):
    """An object is gone or is not what the manifest says: a newer manifest may name another one."""


def manifest_tags(store: BlobStore, prefix: str) -> list[str]:
    """The tags of all manifests of a folder of the store, the newest first; those that only announce count as well.

    Args:
        store: The store.
        prefix: Key of the folder there.
    """
    keys = store.objects(f"{prefix}/{MANIFESTS}")
    return sorted((Path(key).stem for key in keys if key.endswith(".json")), reverse=True)


def newest_manifest(store: BlobStore, prefix: str) -> FolderManifest | None:
    """The manifest that counts of a folder of the store; None where it has none.

    Args:
        store: The store.
        prefix: Key of the folder there.

    Raises:
        LedgerDamaged: It does not read.
        StorageUnreachable: The store does not answer.
    """
    for _ in range(TRIES):
        tags = manifest_tags(store, prefix)
        for tag in tags:
            key = f"{prefix}/{MANIFESTS}/{tag}.json"
            if (content := store.get(key)) is None:
                break  # a newer writer has removed it
            manifest = FolderManifest.from_bytes(content, store.url(key))
            if manifest.files is not None:
                return manifest
        else:
            return None
    raise LedgerDamaged(f"{store.url(prefix)}: its manifests are removed while they are read; try again")


def fetch_folder(
    store: BlobStore, prefix: str, folder: Path, *, wanted: Callable[[str], bool] | None = None, tag: str = ""
) -> FolderManifest | None:
    """Make a local folder as the store has it, in place of what is there; hidden files and the trials stay.

    Args:
        store: The store.
        prefix: Key of the folder there.
        folder: The local folder.
        wanted: Which of its files are fetched; by default all.
        tag: Under which tag the folder is written to from now on.

    Returns:
        The manifest that it was made by; None where the store has none, and nothing was changed.

    Raises:
        LedgerDamaged: The store does not hold what the manifest says.
        StorageUnreachable: The store does not answer.
    """

    def attempt() -> FolderManifest | None:
        manifest = newest_manifest(store, prefix)
        if manifest is not None:
            _fetch(store, manifest, folder, wanted)
        return manifest

    advice = "Nothing is made of what is left: restore that object, or name results that are whole"
    manifest = _while_replaced(attempt, advice)
    if manifest is not None:
        FolderMarker.new(manifest.version + ("" if wanted is None else " in part"), tag).write(folder)
    return manifest


def fetch_files(store: BlobStore, prefix: str, folder: Path, names: Collection[str]) -> bool:
    """Add single files of a folder of the store to a local one, each whole or not at all. Several processes may do so.

    Args:
        store: The store.
        prefix: Key of the folder there.
        folder: The local folder.
        names: The files, relative to the folder.

    Returns:
        Whether the folder's manifest names them all; where it does not, nothing was fetched.

    Raises:
        LedgerDamaged: The store does not hold what the manifest says.
        StorageUnreachable: The store does not answer.
    """

    def attempt() -> bool:
        manifest = newest_manifest(store, prefix)
        parts = dict(manifest.files or {}) if manifest is not None else {}
        if not parts.keys() >= set(names):
            return False
        for name in names:
            _add(store, folder / name, parts[name])
        return True

    return _while_replaced(attempt, "Restore that object, or name results that are whole")


def _while_replaced(attempt: Callable[[], Fetched], advice: str) -> Fetched:
    """What an attempt gives, which is made again where a writer has replaced objects meanwhile."""
    problem = ""
    for _ in range(TRIES):
        try:
            return attempt()
        except _Replaced as error:
            problem = str(error)
    raise LedgerDamaged(f"{problem}. {advice}")


def _add(store: BlobStore, file: Path, parts: tuple[Part, ...]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write(store, draft, file, parts, {})
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)


def _fetch(store: BlobStore, manifest: FolderManifest, folder: Path, wanted: Callable[[str], bool] | None) -> None:
    draft = folder.with_name(f".{folder.name}.fetching")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    objects: dict[str, bytes] = {}
    try:
        for path, parts in (manifest.files or {}).items():
            if wanted is None or wanted(path):
                (draft / path).parent.mkdir(parents=True, exist_ok=True)
                _write(store, draft / path, folder / path, parts, objects)
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(store: BlobStore, file: Path, known: Path, parts: tuple[Part, ...], objects: dict[str, bytes]) -> None:
    if len(parts) == 1 and parts[0].key and parts[0].size >= BUNDLED_BYTES:
        _fetch_large(store, file, known, parts[0])
        return
    with file.open("wb") as stream:
        for part in parts:
            stream.write(_content(store, part, known, stream.tell(), objects))


def _content(store: BlobStore, part: Part, known: Path, start: int, objects: dict[str, bytes]) -> bytes:
    content = part.content
    if content is None:
        with contextlib.suppress(OSError), known.open("rb") as stream:
            stream.seek(start)
            local = stream.read(part.size)
            if hashlib.sha256(local).hexdigest() == part.sha256:
                return local
        if part.key not in objects:
            fetched = store.get(part.key)
            if fetched is None:
                raise _Replaced(f"{store.url(part.key)} is gone although the manifest names it")
            objects.clear()  # the parts of one object follow each other; one is kept at a time
            objects[part.key] = fetched
        content = objects[part.key][part.start : part.start + part.size]
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise _Replaced(f"{store.url(part.key)} is not what was written: its sha256 differs from the manifest's")
    return content


def _fetch_large(store: BlobStore, file: Path, known: Path, part: Part) -> None:
    if known.exists() and known.stat().st_size == part.size and _digest(known) == part.sha256:
        file.hardlink_to(known)
        return
    try:
        store.get_file(part.key, file)
    except FileNotFoundError:
        raise _Replaced(f"{store.url(part.key)} is gone although the manifest names it") from None
    if _digest(file) != part.sha256:
        raise _Replaced(f"{store.url(part.key)} is not what was written: its sha256 differs from the manifest's")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _replace(draft: Path, folder: Path) -> None:
    """Put what was fetched in place of what is there. The marker goes first, so that a kill leaves no folder that looks
    whole; the trials' folders have manifests of their own and stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    for entry in folder.iterdir():
        if entry.name == TRIALS or entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for entry in draft.iterdir():
        entry.rename(folder / entry.name)
