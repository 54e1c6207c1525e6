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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from expflow.errors import CheckpointDamaged, DiskFull, StorageUnwritable
from expflow.files import fsync_path, open_regular

MANIFEST = "manifest.json"
MANIFEST_BYTES = 16 * 2**20
"""Most bytes of a manifest; it names a few files."""
FORMAT = 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_BYTES = 1 << 20

_NAME = re.compile(r"step-(\d{9,})")


@dataclass(frozen=True)
class CheckpointManifest:
    """What a checkpoint is, and the files it consists of.

    Attributes:
        step: Optimizer steps until here.
        config: Id of the trial's config.
        seed: The trial's seed.
        forks: How often the trial had taken over another one's weights.
        origin: The config it was taken over from, where it has not been trained on yet; else "".
        ranks: How many ranks wrote it.
        epoch: Whole passes over the training set.
        batch: Batches of the next pass.
        seconds: Seconds of training until here, over all attempts.
        budget: How long the training was to be.
        loader: The training loader's own position.
        lock_epoch: Epoch of the driver it was written for.
        versions: Of expflow, torch and Lightning.
        files: sha256 and bytes of each file.
        format: Number of this format.
        sha256: Of all the rest of the manifest.
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
        return sum(int(entry["bytes"]) for entry in self.files.values())

    def sealed(self, files: Mapping[str, Mapping[str, Any]]) -> CheckpointManifest:
        """This manifest with its files and its own checksum.

        Args:
            files: sha256 and bytes of each file.
        """
        whole = replace(self, files=dict(files))
        return replace(whole, sha256=_checksum(asdict(whole)))


class HashingWriter:
    """A file that is written once, from its beginning to its end, and hashed on the way.

    Keeps the system's error in ``error``, which torch's writer hides.

    Args:
        file: Where everything is written to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write and hash.

        Args:
            data: Bytes, or an object with a buffer.
        """
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


class CheckpointDraft:
    """A checkpoint that is being written, in a hidden folder beside its place.

    Args:
        parent: The folder of the trial's checkpoints.
        step: The optimizer step that is saved.
        tag: Tells writers apart that must not share a folder.
    """

    def __init__(self, parent: Path, step: int, tag: str = "") -> None:
        self.final = parent / f"step-{step:09d}"
        self.folder = parent / f".step-{step:09d}{tag}.tmp"
        self._entries: dict[str, dict[str, Any]] = {}

    def write(self, name: str, fill: Callable[[HashingWriter], Any]) -> None:
        """Write one file and bring it to the disk.

        Args:
            name: The file's name.
            fill: Called with the file; writes its content.

        Raises:
            DiskFull: There is no room.
            StorageUnwritable: The file cannot be written for another reason.
        """
        path, hashed = self.folder / name, None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                hashed = HashingWriter(file)
                fill(hashed)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer hides the system's error behind one of its own
            cause = error if isinstance(error, OSError) else hashed.error if hashed else None
            if cause is None:
                raise
            raise storage_error(path, cause) from error
        self._entries[name] = hashed.entry

    def commit(
        self, manifest: CheckpointManifest, others: tuple[str, ...], allowed: Callable[[], None]
    ) -> CheckpointManifest:
        """Put the checkpoint in its place.

        Args:
            manifest: What it is; files and checksum are filled in.
            others: Names of files in the folder that other ranks wrote.
            allowed: Called right before the rename; raises where a newer driver has taken over.

        Returns:
            The manifest that was written.

        Raises:
            DiskFull: There is no room.
            StorageUnwritable: The checkpoint cannot be written for another reason.
        """
        try:
            for name in others:
                self._entries[name] = _entry(self.folder / name)
            sealed = manifest.sealed(self._entries)
            text = json.dumps(asdict(sealed), indent=1)
            self.write(MANIFEST, lambda file: file.write(text.encode()))
            fsync_path(self.folder)
            allowed()
            if self.final.exists():  # damaged, or from before a fork: what is valid is never written again
                remove_checkpoint(self.final)
            self.folder.rename(self.final)
            fsync_path(self.final.parent)
        except OSError as error:
            raise storage_error(self.final, error) from error
        return sealed

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def storage_error(path: Path, error: OSError) -> DiskFull | StorageUnwritable:
    """The trial's error for an error of the system.

    Args:
        path: What was being written.
        error: What the system raised.
    """
    if error.errno in NO_ROOM:
        return DiskFull(f"no room for the checkpoint {path} ({error.strerror}); the ones before it are intact")
    return StorageUnwritable(f"the checkpoint {path} cannot be written: {error.strerror or error}")


def read_checkpoint_manifest(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint; its files are not read.

    Args:
        path: The checkpoint's folder.

    Raises:
        CheckpointDamaged: The manifest is missing, damaged, or of a newer format.
    """
    try:
        data = _parsed(path / MANIFEST)
        known = {known_field.name for known_field in fields(CheckpointManifest)}
        manifest = CheckpointManifest(**{key: value for key, value in data.items() if key in known})
        newer, intact = int(manifest.format) > FORMAT, _checksum(data) == manifest.sha256
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"{path} has no {error.filename and Path(error.filename).name}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise CheckpointDamaged(f"{path / MANIFEST} does not read: {reason}") from error
    if newer:
        raise CheckpointDamaged(f"{path} has format {manifest.format}; this expflow reads up to {FORMAT}")
    if not intact:
        raise CheckpointDamaged(f"{path / MANIFEST} is not what was written: its checksum differs")
    if odd := next(_odd_fields(manifest), ""):
        raise CheckpointDamaged(f"{path / MANIFEST} is not what expflow writes: {odd}")
    return manifest


def _parsed(path: Path) -> dict[str, Any]:
    """The mapping in a file of JSON. Raises OSError, ValueError, RecursionError."""
    with open_regular(path) as file:
        content = file.read(MANIFEST_BYTES + 1)
    if len(content) > MANIFEST_BYTES:
        raise ValueError(f"it has more than {MANIFEST_BYTES:,} bytes")
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("it holds no mapping")
    return data


def _odd_fields(manifest: CheckpointManifest) -> Iterator[str]:
    """What in a manifest is of another kind than expflow writes; its checksum anybody can compute."""
    for name in ("step", "forks", "ranks", "epoch", "batch"):
        value = getattr(manifest, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            yield f"{name} is {str(value)[:40]!a}"
    if not isinstance(manifest.seconds, int | float) or not isinstance(manifest.config, str):
        yield "seconds or config is of another kind"
    for name in ("budget", "loader", "versions", "files"):
        if not isinstance(getattr(manifest, name), Mapping):
            yield f"{name} is no mapping"
            return
    for file, entry in manifest.files.items():
        if Path(file).name != file or file in (".", ".."):
            yield f"{file[:100]!a} is no name of a file in it"
        elif not isinstance(entry, Mapping) or not (
            isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        ):
            yield f"it does not say what {file[:100]!a} holds"


def verify_checkpoint(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint, after every file was compared with it.

    Args:
        path: The checkpoint's folder.

    Raises:
        CheckpointDamaged: The manifest or a file is missing or is not what was written.
    """
    manifest = read_checkpoint_manifest(path)
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


def list_checkpoints(parent: Path) -> list[Path]:
    """The folders that have a checkpoint's name, newest first. Nothing is read.

    Args:
        parent: The folder of a trial's checkpoints; it may be missing.
    """
    try:
        return sorted(
            (path for path in parent.iterdir() if _NAME.fullmatch(path.name)), key=checkpoint_step, reverse=True
        )
    except FileNotFoundError:
        return []


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name.

    Args:
        path: The checkpoint's folder.

    Raises:
        ValueError: The folder has another name.
    """
    return int(path.name.removeprefix("step-"))


def prune_checkpoints(parent: Path, keep: int, newest: Path) -> list[Path]:
    """Remove all but the newest checkpoints of a trial.

    Later ones than ``newest`` go as well: they are damaged, or from before a fork.

    Args:
        parent: The folder of the trial's checkpoints.
        keep: How many stay.
        newest: The newest that stays, which was just verified.

    Returns:
        The folders that were removed.
    """
    earlier = [path for path in list_checkpoints(parent) if checkpoint_step(path) < checkpoint_step(newest)]
    gone = [path for path in list_checkpoints(parent) if checkpoint_step(path) > checkpoint_step(newest)] + earlier[
        keep - 1 :
    ]
    for path in gone:
        remove_checkpoint(path)
    return gone


def remove_leftover_drafts(parent: Path, tag: str | None = None) -> None:
    """Remove the hidden folders that killed writers left behind.

    Args:
        parent: The folder of the trial's checkpoints.
        tag: The tag of the writer that is at work now, whose folders stay; None where there is none.
    """
    for path in parent.glob(".step-*"):
        if tag is None or not path.name.endswith(f"{tag}.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def remove_checkpoint(path: Path) -> None:
    """Hide a checkpoint in one step, then remove it: a reader sees all of it or nothing.

    Args:
        path: The checkpoint's folder; one that is gone already is no error.
    """
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
    with open_regular(path) as file:
        while block := file.read(READ_BYTES):
            hashed.update(block)
            size += len(block)
    return {"sha256": hashed.hexdigest(), "bytes": size}
