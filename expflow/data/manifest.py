"""The manifest of a folder of shards: what was written, so that whatever is read can be held against it.

Standard library only: finding prepared data must cost neither numpy nor torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expflow.data.dataspec import DataSpec
from expflow.errors import DataMissing, ShardCorrupt

FORMAT = 1
"""Raised when the layout of shards or manifest changes in a way that older readers cannot read."""

MANIFEST = "manifest.json"

SAFE_FILE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A shard is a plain file in the folder of the shards or below it: no address, no command, no way out."""


@dataclass(frozen=True)
class Sidecar:
    """A file that belongs to the manifest and lies beside it, with its size and sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """One tar of samples. ``bytes`` is the file's size, ``sha256`` that of the whole file.

    ``index`` says where each sample lies in it (:mod:`expflow.data.index`); None where an older version built it.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index: Sidecar | None = None


@dataclass(frozen=True)
class Manifest:
    """What one folder of shards holds.

    ``fields`` maps a batch's field to the member's extension (``{image: png, label: cls}``), ``splits`` a split to its
    shards in order. ``key`` names the source's description; ``content`` is the sha256 over all decoded samples, so it
    agrees between machines whose PNG encoders differ. ``at`` is the address of the folder where the shards lie if that
    is not the manifest's own, as with shards of others, which may hold members that are no fields. ``statistics`` is
    what ``expflow data stats`` prints.
    """

    key: str
    source: Mapping[str, Any]
    fields: Mapping[str, str]
    splits: Mapping[str, tuple[Shard, ...]]
    spec: DataSpec
    content: str
    at: str = ""
    statistics: Sidecar | None = None

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of ``split``. Raises DataMissing, naming the splits that there are."""
        if split not in self.splits:
            raise DataMissing(f"these data have no split {split!r}, only {', '.join(self.splits)}")
        return self.splits[split]

    def all_shards(self) -> list[Shard]:
        """The shards of all splits, in order."""
        return [shard for shards in self.splits.values() for shard in shards]

    def samples(self, split: str) -> int:
        """How many samples ``split`` has."""
        return sum(shard.samples for shard in self.shards(split))

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` reads it back. What an older version does not know has keys of its own."""
        every = self.all_shards()
        return {
            "format": FORMAT,
            "key": self.key,
            "source": dict(self.source),
            "fields": dict(self.fields),
            "splits": {split: [_plain(shard) for shard in shards] for split, shards in self.splits.items()},
            "dataspec": self.spec.to_json(),
            "content": self.content,
            "indexes": {shard.name: vars(shard.index) for shard in every if shard.index is not None},
            **({"at": self.at} if self.at else {}),
            **({"statistics": vars(self.statistics)} if self.statistics is not None else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest that :meth:`to_json` described. Raises KeyError, TypeError or ValueError where it is none."""
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} is not {FORMAT}, the one this version reads")
        indexes = {name: _sidecar(each) for name, each in data.get("indexes", {}).items()}
        statistics = data.get("statistics")
        return cls(
            key=data["key"],
            source=data["source"],
            fields=data["fields"],
            splits={split: tuple(_shard(each, indexes) for each in part) for split, part in data["splits"].items()},
            spec=DataSpec.from_json(data["dataspec"]),
            content=data["content"],
            at=data.get("at", ""),
            statistics=_sidecar(statistics) if statistics is not None else None,
        )


def _plain(shard: Shard) -> dict[str, Any]:
    return {"name": shard.name, "samples": shard.samples, "bytes": shard.bytes, "sha256": shard.sha256}


def _shard(data: Mapping[str, Any], indexes: Mapping[str, Sidecar]) -> Shard:
    shard = Shard(**data)
    if not (SAFE_FILE.fullmatch(shard.name) and shard.name.endswith(".tar")):
        raise ValueError(f"{shard.name!r} is not the name of a shard")
    return replace(shard, index=indexes.get(shard.name))


def _sidecar(data: Mapping[str, Any]) -> Sidecar:
    sidecar = Sidecar(**data)
    if not SAFE_FILE.fullmatch(sidecar.name):
        raise ValueError(f"{sidecar.name!r} is not the name of a file beside the manifest")
    return sidecar


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write ``manifest`` into ``root``, with a checksum over itself."""
    data = manifest.to_json()
    (root / MANIFEST).write_text(json.dumps({**data, "sha256": checksum(data)}, indent=1) + "\n", encoding="utf-8")


def read_manifest(root: Path) -> Manifest:
    """The manifest in ``root``. Raises DataMissing where there is none, ShardCorrupt where it is damaged."""
    path = root / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataMissing(f"no shards at {root}: there is no {MANIFEST}; run `expflow data build`") from error
    return parse_manifest(content, str(path), how_to_rebuild(root))


def parse_manifest(content: bytes, where: str, mend: str = "build these shards again") -> Manifest:
    """The manifest whose file holds ``content``; it came from ``where``. Raises ShardCorrupt where it is damaged."""
    try:
        data = json.loads(content)
        expected, found = data.pop("sha256"), checksum(data)
        if found != expected:
            raise ValueError(f"expected sha256 {expected}, found {found}")
        return Manifest.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardCorrupt(f"{where}: damaged ({error}); {mend}") from error


def checksum(data: Mapping[str, Any]) -> str:
    """The sha256 of plain data, however its keys are ordered."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def how_to_rebuild(root: Path) -> str:
    """What to do about a damaged folder of shards."""
    return f"delete {root} and the same command builds it again"
