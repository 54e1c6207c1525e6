"""Sends what changed in a local folder to the store: objects first, the manifest last, then what is not named goes.

A kill between any two of these writes leaves a manifest that is whole, and at most objects that nobody names, which a
later driver removes (:mod:`~expflow.storage.leftovers`). Objects are never written twice: each has the writer's tag and
a number in its key, so a writer that was replaced cannot spoil what its successor names.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.files import write_atomically
from expflow.storage.blob_store import BlobStore
from expflow.storage.folder_manifest import FolderManifest, Part

MARKER = ".stored.json"
"""In a local folder: its id as a writer, and the manifest that it was last made of."""
MANIFESTS = "manifest"
INLINE_BYTES = 128 << 10
"""Most bytes that stand in a manifest; what is more goes into an object."""
INLINE_FILE_BYTES = 32 << 10
"""Most bytes of one file's part that stand in a manifest."""
BUNDLED_BYTES = 8 << 20
"""Files from this size on are objects of their own."""
GROWING = ".jsonl"
"""What the names of files end in that only grow."""


@dataclass(frozen=True)
class FolderMarker:
    """What a local folder says of itself.

    Attributes:
        writer: Its id.
        base: Version of the manifest that it was fetched by; "" where it was never fetched.
        tag: Under which tag it is written to now.
    """

    writer: str
    base: str = ""
    tag: str = ""

    @classmethod
    def of(cls, folder: Path) -> FolderMarker | None:
        """The marker of a folder; None where it has none that reads.

        Args:
            folder: The local folder.
        """
        try:
            data = json.loads((folder / MARKER).read_text())
            return cls(str(data["writer"]), str(data["base"]), str(data["tag"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def new(cls, base: str = "", tag: str = "") -> FolderMarker:
        """The marker of a folder that was not there before.

        Args:
            base: Version of the manifest that it was fetched by.
            tag: Under which tag it is written to.
        """
        return cls(uuid.uuid4().hex[:16], base, tag)

    def write(self, folder: Path) -> FolderMarker:
        """Write it into a folder.

        Args:
            folder: The local folder.
        """
        content = json.dumps({"writer": self.writer, "base": self.base, "tag": self.tag})
        write_atomically(folder / MARKER, content.encode())
        return self


Signature = tuple[int, int, int]
"""Inode, size and time of change of a file."""


class FolderMirror:
    """Keeps a folder of the store as a local folder is. Used by one thread at a time.

    Args:
        store: The store.
        prefix: Key of the folder there.
        folder: The local folder.
        tag: The writer's tag (:attr:`FolderManifest.tag`).
        known: The manifest that the local folder was fetched by, or wrote before; None for a new one.
        skip: Whether a path in the folder is left alone.
        hold: Whether a file stays in the store as it is there for now.
        still_mine: Whether no newer writer has come; asked before anything is removed.
    """

    def __init__(
        self,
        store: BlobStore,
        prefix: str,
        folder: Path,
        tag: str,
        *,
        known: FolderManifest | None = None,
        skip: Callable[[str], bool] = lambda path: False,
        hold: Callable[[str], bool] = lambda path: False,
        still_mine: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store, self._prefix, self._folder, self._tag = store, prefix, folder, tag
        self._skip, self._hold, self._still_mine = skip, hold, still_mine
        marker = FolderMarker.of(folder) or FolderMarker.new()
        self._writer = FolderMarker(marker.writer, marker.base, tag).write(folder).writer
        self._files: dict[str, tuple[Part, ...]] = dict(known.files or {}) if known else {}
        self._seen: dict[str, Signature] = {}
        # Numbers go on where this writer's own manifest of this tag ended, so that no key is used twice.
        own = known is not None and known.tag == tag
        self._number, self._sent_any = (known.number + 1 if own and known else 0), False
        self._made: set[str] = set()
        """Objects that were sent since the last manifest."""

    @property
    def manifest_key(self) -> str:
        """The key of this writer's manifest."""
        return f"{self._prefix}/{MANIFESTS}/{self._tag}.json"

    def send(self, *, remove: bool = True) -> bool:
        """Send what changed; returns whether anything was sent.

        Args:
            remove: Whether objects are removed that no file needs any more.

        Raises:
            FileNotFoundError: The folder is being removed: the store keeps what it has.
            StorageUnreachable: The store does not take it. The same call later sends what is left.
        """
        files, seen = self._changed()
        self._check_there(seen)
        if files == self._files and self._sent_any:
            self._seen = seen
            return False
        before = {part.key for parts in self._files.values() for part in parts if part.key} | self._made
        manifest = FolderManifest(self._tag, self._writer, self._number, files)
        self._store.put(self.manifest_key, manifest.to_bytes())
        self._files, self._seen, self._sent_any = files, seen, True
        self._number, self._made = self._number + 1, set()
        dropped = sorted(before - manifest.object_keys())
        if dropped and remove and self._still_mine():
            self._store.delete(dropped)
        return True

    def _changed(self) -> tuple[dict[str, tuple[Part, ...]], dict[str, Signature]]:
        """The folder's files as they are now, their new bytes sent where they do not fit into the manifest."""
        files: dict[str, tuple[Part, ...]] = {}
        seen: dict[str, Signature] = {}
        for path, signature in self._present():
            known = self._files.get(path)
            if self._hold(path):
                files.update({path: known} if known is not None else {})
                continue
            if known is not None and self._seen.get(path) == signature and not self._is_to_be_joined(path, known):
                files[path], seen[path] = known, signature
                continue
            try:
                files[path] = self._parts(path, known, signature)
            except FileNotFoundError:  # removed meanwhile; a checkpoint goes whole
                continue
            seen[path] = signature
        _drop_torn_checkpoints(files)
        return self._with_room(files), seen

    def _check_there(self, seen: Mapping[str, Signature]) -> None:
        """Raise where somebody removes the folder meanwhile: what is left of it is no state that it ever had."""
        marker = FolderMarker.of(self._folder)
        lost = [path for path in self._seen if path.endswith(GROWING) and path not in seen]
        if lost or marker is None or marker.writer != self._writer:
            raise FileNotFoundError(errno.ENOENT, "it is being removed", str(self._folder))

    def _present(self) -> Iterator[tuple[str, Signature]]:
        """Path and signature of each file that is kept; journals last, so that they cover the checkpoints."""
        paths = []
        for folder, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(folder).relative_to(self._folder)
            folders[:] = [name for name in folders if not self._skip((below / name).as_posix())]
            paths += [(below / name).as_posix() for name in names if not name.startswith(".") or _is_kept(name)]
        for path in sorted(paths, key=lambda path: (path.endswith(GROWING), path)):
            if self._skip(path):
                continue
            try:
                status = (self._folder / path).stat()
            except FileNotFoundError:
                continue
            yield path, (status.st_ino, status.st_size, status.st_mtime_ns)

    def _is_to_be_joined(self, path: str, known: tuple[Part, ...]) -> bool:
        """Whether a segment of a ledger was sealed that was sent in parts."""
        return len(known) > 1 and path.endswith(GROWING) and (self._folder / path).with_suffix(".seal.json").exists()

    def _parts(self, path: str, known: tuple[Part, ...] | None, signature: Signature) -> tuple[Part, ...]:
        file, size = self._folder / path, signature[1]
        if known and path.endswith(GROWING) and not self._is_to_be_joined(path, known):
            sent = sum(part.size for part in known)
            checked = known[-1:] if path in self._seen else known
            if sent <= size and _holds(file, sent, checked):
                content = _read(file, sent)
                if content and known[-1].content is not None:
                    return (*known[:-1], Part.of(known[-1].content + content))
                return (*known, Part.of(content)) if content else known
        if size >= BUNDLED_BYTES:
            return (self._own_object(path, file, known),)
        content = _read(file)
        if known and len(known) == 1 and known[0].sha256 == _sha256(content):
            return known  # another time of change, the same bytes
        return (Part.of(content),)

    def _own_object(self, path: str, file: Path, known: tuple[Part, ...] | None) -> Part:
        """Send a large file as it is now. Only what does not change any more is that large."""
        with file.open("rb") as stream:
            digest, size = hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()
        if known and len(known) == 1 and known[0].sha256 == digest:
            return known[0]
        key = self._new_key(path)
        self._store.put_file(key, file)
        return Part(size, digest, key=key)

    def _with_room(self, files: Mapping[str, tuple[Part, ...]]) -> dict[str, tuple[Part, ...]]:
        """Move bytes out of the manifest into one object, until what is left has room there."""
        inline = [
            (path, index, part.content)
            for path, parts in files.items()
            for index, part in enumerate(parts)
            if part.content is not None
        ]
        is_full = sum(len(content) for _, _, content in inline) > INLINE_BYTES
        moved = [entry for entry in inline if is_full or len(entry[2]) > INLINE_FILE_BYTES]
        result = {path: list(parts) for path, parts in files.items()}
        if moved:
            key, start = self._new_key(_name_of(moved[0][0], len(moved))), 0
            self._store.put(key, b"".join(content for _, _, content in moved))
            for path, index, content in moved:
                result[path][index] = Part.of(content, key, start)
                start += len(content)
        return {path: tuple(parts) for path, parts in result.items()}

    def _new_key(self, path: str) -> str:
        key = f"{self._prefix}/{path}~{self._tag}-{uuid.uuid4().hex[:12]}"
        self._made.add(key)
        return key


def _is_kept(name: str) -> bool:
    """Whether a hidden file is sent: what an evaluation that is about to be recorded keeps of samples, and no draft."""
    return ".npz.look" in name and not name.endswith(".part")


def _name_of(path: str, count: int) -> str:
    return path if count == 1 else f"{path}+{count - 1}"


def _drop_torn_checkpoints(files: dict[str, tuple[Part, ...]]) -> None:
    """Leave out checkpoints that were removed while they were read."""
    folders = {path.rpartition("/")[0] for path in files if path.startswith("checkpoints/step-")}
    for folder in folders:
        if f"{folder}/manifest.json" not in files:
            for path in [path for path in files if path.startswith(f"{folder}/")]:
                del files[path]


def _read(file: Path, start: int = 0) -> bytes:
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read()


def _holds(file: Path, end: int, parts: Sequence[Part]) -> bool:
    """Whether the bytes of a file before ``end`` are those of the parts that end there."""
    with file.open("rb") as stream:
        stream.seek(end - sum(part.size for part in parts))
        return all(_sha256(stream.read(part.size)) == part.sha256 for part in parts)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
