"""One checkpoint on the disk: a folder of files and a manifest of their sha256, whole or not there at all.

A checkpoint is written into a hidden folder beside its place (so on the same file system). Every file is fsynced, the
manifest is the last of them, then the folder is fsynced, renamed to ``step-000000120``, and its parent fsynced. A
process that is killed anywhere in between leaves a hidden folder, which the next attempt removes. What is read later is
compared with its manifest first: a torn, truncated, swapped or flipped file is refused by name, never used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from expflow.errors import CheckpointDamaged, DiskFull, StorageUnwritable
from expflow.files import sync

MANIFEST = "manifest.json"
FORMAT = 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_BYTES = 1 << 20

_NAME = re.compile(r"step-(\d{9,})")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, and the files it consists of.

    ``config`` and ``seed`` say whose it is, ``forks`` how often that trial had taken over another one's weights, and
    ``origin`` from which config, where this is what it took over and has not trained on yet;
    ``budget`` what it was to train for. ``epoch`` counts whole passes over the training set and ``batch`` the batches
    of the next one; ``loader`` is the data's own position. ``lock_epoch`` is that of the driver it was written for.
    ``files`` holds sha256 and bytes of each file; ``sha256`` is that of all the rest of the manifest.
    """

    step: int
    config: str
    seed: int
    forks: int = 0
    origin: str = ""
    ranks: int = 1
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    """Seconds of training until here, over all attempts."""
    budget: Mapping[str, Any] = field(default_factory=dict)
    loader: Mapping[str, Any] = field(default_factory=dict)
    lock_epoch: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    format: int = FORMAT
    sha256: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(int(each["bytes"]) for each in self.files.values())

    def sealed(self, files: Mapping[str, Mapping[str, Any]]) -> Manifest:
        """This manifest with its files and its own checksum."""
        whole = replace(self, files=dict(files))
        return replace(whole, sha256=_checksum(asdict(whole)))


class Hashed:
    """A file that is written once, front to back, and hashed on the way. Remembers the error that a writer hides."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write ``data`` (bytes or what has a buffer)."""
        try:
            written = self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self._hash.update(data)
        self.size += memoryview(data).nbytes
        return written

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    @property
    def entry(self) -> dict[str, Any]:
        """The file's line in the manifest."""
        return {"sha256": self._hash.hexdigest(), "bytes": self.size}


class Draft:
    """A checkpoint that is being written. ``tag`` tells writers apart that must not share a folder."""

    def __init__(self, parent: Path, step: int, tag: str = "") -> None:
        self.final = parent / f"step-{step:09d}"
        self.folder = parent / f".step-{step:09d}{tag}.tmp"
        self._entries: dict[str, dict[str, Any]] = {}

    def write(self, name: str, fill: Callable[[Hashed], Any]) -> None:
        """Write the file ``name`` by ``fill`` and bring it to the disk.

        Raises DiskFull where there is no room, StorageUnwritable where it cannot be written for another reason.
        """
        path, hashed = self.folder / name, None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                hashed = Hashed(file)
                fill(hashed)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer hides the system's error behind one of its own
            cause = error if isinstance(error, OSError) else hashed.error if hashed else None
            if cause is None:
                raise
            raise storage_error(path, cause) from error
        self._entries[name] = hashed.entry

    def commit(self, manifest: Manifest, others: tuple[str, ...], allowed: Callable[[], None]) -> Manifest:
        """Put the checkpoint in its place; ``others`` are files that other ranks wrote.

        ``allowed`` is called right before the rename and raises where this writer was replaced.
        """
        try:
            for name in others:
                self._entries[name] = _entry(self.folder / name)
            sealed = manifest.sealed(self._entries)
            text = json.dumps(asdict(sealed), indent=1)
            self.write(MANIFEST, lambda file: file.write(text.encode()))
            sync(self.folder)
            allowed()
            if self.final.exists():  # damaged, or from before a fork: what is valid is never written again
                remove(self.final)
            self.folder.rename(self.final)
            sync(self.final.parent)
        except OSError as error:
            raise storage_error(self.final, error) from error
        return sealed

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def storage_error(path: Path, error: OSError) -> DiskFull | StorageUnwritable:
    """What an error of the system while writing ``path`` means for the trial."""
    if error.errno in NO_ROOM:
        return DiskFull(f"no room for the checkpoint {path} ({error.strerror}); the ones before it are intact")
    return StorageUnwritable(f"the checkpoint {path} cannot be written: {error.strerror or error}")


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint ``path``, itself intact. Raises CheckpointDamaged."""
    try:
        data = json.loads((path / MANIFEST).read_bytes())
        known = {each.name for each in fields(Manifest)}
        manifest = Manifest(**{key: value for key, value in data.items() if key in known})
        newer, intact = int(manifest.format) > FORMAT, _checksum(data) == manifest.sha256
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"{path} has no {error.filename and Path(error.filename).name}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"{path / MANIFEST} does not read: {error}") from error
    if newer:
        raise CheckpointDamaged(f"{path} has format {manifest.format}; this expflow reads up to {FORMAT}")
    if not intact:
        raise CheckpointDamaged(f"{path / MANIFEST} is not what was written: its checksum differs")
    return manifest


def verify(path: Path) -> Manifest:
    """The manifest of the checkpoint ``path`` after comparing every file with it. Raises CheckpointDamaged."""
    manifest = read_manifest(path)
    for name, wanted in manifest.files.items():
        file = path / name
        try:
            size = file.stat().st_size
            if size != wanted["bytes"]:
                raise CheckpointDamaged(f"{file} has {size} bytes, its manifest says {wanted['bytes']}")
            if _entry(file)["sha256"] != wanted["sha256"]:
                raise CheckpointDamaged(f"{file} is not what was written: its sha256 differs from the manifest's")
        except OSError as error:
            raise CheckpointDamaged(f"{file} does not read: {error.strerror or error}") from error
    return manifest


def found(parent: Path) -> list[Path]:
    """The folders in ``parent`` that bear a checkpoint's name, newest first. Nothing is read."""
    try:
        return sorted((each for each in parent.iterdir() if _NAME.fullmatch(each.name)), key=step_of, reverse=True)
    except FileNotFoundError:
        return []


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.name.removeprefix("step-"))


def prune(parent: Path, keep: int, newest: Path) -> list[Path]:
    """Remove all but the ``keep`` newest checkpoints up to ``newest``, which was just verified. Returns what went.

    A later step than ``newest``'s is of a course that was left: damaged, or from before a fork.
    """
    earlier = [path for path in found(parent) if step_of(path) < step_of(newest)]
    gone = [path for path in found(parent) if step_of(path) > step_of(newest)] + earlier[keep - 1 :]
    for path in gone:
        remove(path)
    return gone


def sweep_up(parent: Path, tag: str) -> None:
    """Remove the hidden folders that writers with another tag left behind."""
    for path in parent.glob(".step-*"):
        if not path.name.endswith(f"{tag}.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Take a checkpoint out of sight in one step, then remove it: nobody sees a part of it."""
    hidden = path.with_name(f".{path.name}-{os.getpid()}.gone")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        path.rename(hidden)
    except FileNotFoundError:
        return
    shutil.rmtree(hidden, ignore_errors=True)


def _checksum(manifest: Mapping[str, Any]) -> str:
    """sha256 over everything in a manifest but itself, fields of a newer expflow included."""
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _entry(path: Path) -> dict[str, Any]:
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            hashed.update(block)
            size += len(block)
    return {"sha256": hashed.hexdigest(), "bytes": size}
