"""What a stored folder consists of: one object, so that one write replaces the whole description at once.

A file is a row of parts. A part's bytes stand in the manifest itself where they are few, else in an object, of which
they may be a stretch. A file that only grows gets further parts; its earlier ones are never sent again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from expflow.errors import LedgerDamaged

FORMAT = 1
NAME_BYTES = 255
"""Bytes of a file's name, without its folder, on all file systems that matter here."""


@dataclass(frozen=True)
class Part:
    """Some bytes of a file.

    Attributes:
        size: How many.
        sha256: Of these bytes.
        content: The bytes, where they stand in the manifest.
        key: The object that holds them, where they do not.
        start: Where they begin in that object.
    """

    size: int
    sha256: str
    content: bytes | None = None
    key: str = ""
    start: int = 0

    @classmethod
    def of(cls, content: bytes, key: str = "", start: int = 0) -> Part:
        """The part that holds some bytes.

        Args:
            content: The bytes.
            key: The object that they are in; "" for the manifest.
            start: Where they begin in that object.
        """
        return cls(len(content), hashlib.sha256(content).hexdigest(), None if key else content, key, start)

    def to_json(self) -> dict[str, Any]:
        """The part as plain data."""
        where: dict[str, Any] = {"key": self.key, "start": self.start}
        if self.content is not None:
            try:
                where = {"text": self.content.decode("ascii")}
            except UnicodeDecodeError:
                where = {"base64": base64.b64encode(self.content).decode()}
        return {"bytes": self.size, "sha256": self.sha256, **where}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """The part that plain data describe.

        Args:
            data: What :meth:`to_json` gave.
        """
        content = None
        if "text" in data:
            content = str(data["text"]).encode("ascii")
        elif "base64" in data:
            content = base64.b64decode(data["base64"], validate=True)
        key, start = str(data.get("key", "")), int(data.get("start", 0))
        part = cls(int(data["bytes"]), str(data["sha256"]), content, key, start)
        if content is None and (not part.key or part.key.startswith("/") or ".." in part.key.split("/")):
            raise ValueError(f"a part lies nowhere: {part.key!r}")
        return part


@dataclass(frozen=True)
class FolderManifest:
    """A stored folder.

    Attributes:
        tag: Who wrote it: the driver's epoch, of a trial's folder also the attempt. Tags sort in the order of time.
        writer: Id of the local folder that it was written from.
        number: How many manifests its writer wrote before under this tag.
        files: Path in the folder -> the file's parts. None where a writer has only announced itself.
    """

    tag: str
    writer: str
    number: int = 0
    files: Mapping[str, tuple[Part, ...]] | None = field(default_factory=dict)

    @property
    def version(self) -> str:
        """What tells this manifest from all others of its folder."""
        return f"{self.tag}.{self.number}.{self.writer}"

    def object_keys(self) -> set[str]:
        """The objects that the folder's bytes are in."""
        return {part.key for parts in (self.files or {}).values() for part in parts if part.key}

    def to_bytes(self) -> bytes:
        """The manifest as an object's content, with its own checksum."""
        files = None
        if self.files is not None:
            files = {path: [part.to_json() for part in parts] for path, parts in sorted(self.files.items())}
        body = {"format": FORMAT, "tag": self.tag, "writer": self.writer, "number": self.number, "files": files}
        return json.dumps({**body, "sha256": _checksum(body)}, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> FolderManifest:
        """The manifest that an object holds.

        Args:
            content: The object's content.
            where: Its address, for messages.

        Raises:
            LedgerDamaged: It is none.
        """
        try:
            data = json.loads(content)
            if data["format"] > FORMAT:
                raise ValueError(f"it has format {data['format']}; this expflow reads up to {FORMAT}")
            if data.pop("sha256") != _checksum(data):
                raise ValueError("its checksum differs")
            files = data["files"]
            if files is not None:
                files = {path: tuple(map(Part.from_json, parts)) for path, parts in files.items()}
                _check_paths(files)
            return cls(str(data["tag"]), str(data["writer"]), int(data["number"]), files)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise LedgerDamaged(f"{where} is no manifest of results as they were written: {error}") from error


def _check_paths(paths: Collection[str]) -> None:
    for path in paths:
        if not path or "\0" in path or "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise ValueError(f"{path[:100]!a} leads out of the folder")
        names = path.encode().split(b"/")  # what does not encode is no file's name: also a ValueError
        if max(map(len, names)) > NAME_BYTES:
            raise ValueError(f"{path[:100]!a}… holds a name longer than {NAME_BYTES} bytes, which no file can have")
    if clash := {folder.as_posix() for path in paths for folder in PurePosixPath(path).parents} & set(paths):
        raise ValueError(f"{min(clash)[:100]!a} is both a file and a folder")


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
