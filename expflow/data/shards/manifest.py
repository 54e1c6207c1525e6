"""The manifest of a folder of shards: what was written, so that whatever is read can be checked against it.

Standard library only: finding prepared data must cost neither numpy nor torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expflow.data.dataspec import DataSpec
from expflow.data.shards.passed_over import PassedOver
from expflow.errors import DataMissing, ShardCorrupt
from expflow.files import read_bounded

FORMAT = 1
"""Raised when the layout of shards or manifest changes in a way that older readers cannot read."""

FIRST_READING = 1
"""The number of the first rules by which folders of files were read."""

MANIFEST = "manifest.json"

LARGEST_MANIFEST = 64 * 2**20
"""Bytes of a manifest, and of a file beside it, that are read; that of ImageNet-22k has six million."""

SAFE_FILE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A shard is a plain file in the folder of the shards or below it: no address, no command, no way out."""


@dataclass(frozen=True)
class Sidecar:
    """A file that belongs to the manifest and lies beside it.

    Attributes:
        name: path below the manifest's folder.
        bytes: size of the file.
        sha256: hash of the whole file, hexadecimal.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardEntry:
    """One tar of samples, as the manifest lists it.

    Attributes:
        name: path of the tar below the folder of the shards.
        samples: number of its samples.
        bytes: size of the file.
        sha256: hash of the whole file, hexadecimal.
        index: the file that says where each sample lies in it (:mod:`expflow.data.shards.index`); None where an older
            version built it.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index: Sidecar | None = None


@dataclass(frozen=True)
class ShardManifest:
    """What one folder of shards holds.

    Attributes:
        key: the data key: a hash of ``source``.
        source: the source's description (:meth:`expflow.data.source_spec.ShardedSourceSpec.description`).
        fields: maps a batch's field to the member's extension, such as ``{image: png, label: cls}``.
        splits: maps a split to its shards, in order.
        spec: what models and tasks need to know of the samples.
        content: sha256 over all decoded samples, which agrees between machines whose PNG encoders differ.
        at: address of the folder where the shards lie, if that is not the manifest's own; "" otherwise. Shards of
            others are left where they are, and may hold members that are no fields.
        statistics: the file with the counts that ``expflow data stats`` prints.
        passed_over: files and members that lay among the data and were not read.
        notes: what a user should know of the classes, such as one without samples.
    """

    key: str
    source: Mapping[str, Any]
    fields: Mapping[str, str]
    splits: Mapping[str, tuple[ShardEntry, ...]]
    spec: DataSpec
    content: str
    at: str = ""
    statistics: Sidecar | None = None
    passed_over: PassedOver = field(default_factory=PassedOver)
    notes: tuple[str, ...] = ()

    @property
    def reading(self) -> int:
        """By which rules the source's files were read."""
        return int(self.source.get("reading", FIRST_READING))

    def remarks(self) -> list[str]:
        """Return the lines that everybody should see who uses these data: the notes, and what was not read."""
        return [*self.notes, *(f"not read: {line}" for line in self.passed_over.lines())]

    def shards(self, split: str) -> tuple[ShardEntry, ...]:
        """Return the shards of one split.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            DataMissing: there is no such split; the message names those that there are.
        """
        if split not in self.splits:
            raise DataMissing(f"these data have no split {split!r}, only {', '.join(self.splits)}")
        return self.splits[split]

    def all_shards(self) -> list[ShardEntry]:
        """Return the shards of all splits, in order."""
        return [shard for shards in self.splits.values() for shard in shards]

    def samples(self, split: str) -> int:
        """Return the number of samples of one split.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            DataMissing: there is no such split.
        """
        return sum(shard.samples for shard in self.shards(split))

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` reads back. What older versions do not know has keys of its own."""
        return {
            "format": FORMAT,
            "key": self.key,
            "source": dict(self.source),
            "fields": dict(self.fields),
            "splits": {split: [_shard_to_json(shard) for shard in shards] for split, shards in self.splits.items()},
            "dataspec": self.spec.to_json(),
            "content": self.content,
            "indexes": {shard.name: vars(shard.index) for shard in self.all_shards() if shard.index is not None},
            **({"at": self.at} if self.at else {}),
            **({"statistics": vars(self.statistics)} if self.statistics is not None else {}),
            **({"passed_over": self.passed_over.to_json()} if self.passed_over.counts else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ShardManifest:
        """Rebuild the manifest that :meth:`to_json` described.

        Args:
            data: the plain data.

        Raises:
            ValueError: it is no manifest of this format; KeyError and TypeError as well, where keys are missing or of
                other types.
        """
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} is not {FORMAT}, the one this version reads")
        if not isinstance(data["source"].get("reading", FIRST_READING), int):
            raise ValueError("its source was read by no known rules")
        indexes = {name: _sidecar(index) for name, index in data.get("indexes", {}).items()}
        statistics = data.get("statistics")
        return cls(
            key=data["key"],
            source=data["source"],
            fields=data["fields"],
            splits={split: tuple(_shard(shard, indexes) for shard in part) for split, part in data["splits"].items()},
            spec=DataSpec.from_json(data["dataspec"]),
            content=data["content"],
            at=data.get("at", ""),
            statistics=_sidecar(statistics) if statistics is not None else None,
            passed_over=PassedOver.from_json(data.get("passed_over", {})),
            notes=tuple(str(note) for note in data.get("notes", ())),
        )


def _shard_to_json(shard: ShardEntry) -> dict[str, Any]:
    return {"name": shard.name, "samples": shard.samples, "bytes": shard.bytes, "sha256": shard.sha256}


def _shard(data: Mapping[str, Any], indexes: Mapping[str, Sidecar]) -> ShardEntry:
    shard = ShardEntry(**data)
    if not (SAFE_FILE.fullmatch(shard.name) and shard.name.endswith(".tar")):
        raise ValueError(f"{shard.name!r} is not the name of a shard")
    return replace(shard, index=indexes.get(shard.name))


def _sidecar(data: Mapping[str, Any]) -> Sidecar:
    sidecar = Sidecar(**data)
    if not SAFE_FILE.fullmatch(sidecar.name):
        raise ValueError(f"{sidecar.name!r} is not the name of a file beside the manifest")
    return sidecar


def write_manifest(root: Path, manifest: ShardManifest) -> None:
    """Write a manifest as ``manifest.json``, with a checksum over itself.

    Args:
        root: the folder of the shards.
        manifest: what it holds.
    """
    data = manifest.to_json()
    (root / MANIFEST).write_text(json.dumps({**data, "sha256": checksum(data)}, indent=1) + "\n", encoding="utf-8")


def read_manifest(root: Path) -> ShardManifest:
    """Read the manifest of a folder.

    Args:
        root: the folder.

    Raises:
        DataMissing: there is no manifest in it.
        ShardCorrupt: the manifest is damaged, no regular file, or larger than any manifest is.
    """
    path = root / MANIFEST
    try:
        content = read_bounded(path, LARGEST_MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataMissing(f"no shards at {root}: there is no {MANIFEST}; run `expflow data build`") from error
    except OSError as error:
        raise ShardCorrupt(f"{path}: cannot be read ({error.strerror}); {how_to_rebuild(root)}") from error
    return parse_manifest(content, str(path), how_to_rebuild(root))


def parse_manifest(content: bytes, where: str, mend: str = "build these shards again") -> ShardManifest:
    """Parse the content of a manifest's file.

    Args:
        content: the bytes of the file.
        where: its path or address, for messages.
        mend: what to do about a damaged one, for messages.

    Raises:
        ShardCorrupt: it is damaged.
    """
    try:
        if len(content) > LARGEST_MANIFEST:
            raise ValueError(f"{len(content)} bytes; a manifest has at most {LARGEST_MANIFEST}")
        data = json.loads(content)
        expected, actual = data.pop("sha256"), checksum(data)
        if actual != expected:
            raise ValueError(f"expected sha256 {expected}, found {actual}")
        return ShardManifest.from_json(data)
    except RecursionError:
        raise ShardCorrupt(f"{where}: damaged (nested too deeply); {mend}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardCorrupt(f"{where}: damaged ({error}); {mend}") from error


def checksum(data: Mapping[str, Any]) -> str:
    """Return the sha256 of plain data, which does not depend on the order of the keys.

    Args:
        data: anything that JSON can hold.
    """
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def how_to_rebuild(root: Path) -> str:
    """Say, for messages, what to do about a damaged folder of shards.

    Args:
        root: the folder.
    """
    return f"delete {root} and the same command builds it again"
