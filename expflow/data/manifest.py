"""The manifest of a folder of shards: what was written, so that whatever is read can be held against it.

Standard library only: finding prepared data must cost neither numpy nor torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expflow.data.dataspec import DataSpec
from expflow.errors import DataMissing, ShardCorrupt

FORMAT = 1
"""Raised when the layout of shards or manifest changes in a way that older readers cannot read."""

MANIFEST = "manifest.json"

SAFE_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.tar")
"""A shard is a plain file beside its manifest: no folder, no address, no command."""


@dataclass(frozen=True)
class Shard:
    """One tar of samples. ``bytes`` is the file's size, ``sha256`` that of the whole file."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What one folder of shards holds.

    ``fields`` maps a batch's field to the member's extension (``{image: png, label: cls}``), ``splits`` a split to its
    shards in order. ``key`` names the source's description; ``content`` is the sha256 over all decoded samples, so it
    agrees between machines whose PNG encoders differ.
    """

    key: str
    source: Mapping[str, Any]
    fields: Mapping[str, str]
    splits: Mapping[str, tuple[Shard, ...]]
    spec: DataSpec
    content: str

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of ``split``. Raises DataMissing, naming the splits that there are."""
        if split not in self.splits:
            raise DataMissing(f"these data have no split {split!r}, only {', '.join(self.splits)}")
        return self.splits[split]

    def samples(self, split: str) -> int:
        """How many samples ``split`` has."""
        return sum(shard.samples for shard in self.shards(split))

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` reads it back."""
        return {
            "format": FORMAT,
            "key": self.key,
            "source": dict(self.source),
            "fields": dict(self.fields),
            "splits": {split: [asdict(shard) for shard in shards] for split, shards in self.splits.items()},
            "dataspec": self.spec.to_json(),
            "content": self.content,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest that :meth:`to_json` described. Raises KeyError, TypeError or ValueError where it is none."""
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} is not {FORMAT}, the one this version reads")
        splits = {split: tuple(Shard(**shard) for shard in shards) for split, shards in data["splits"].items()}
        for shard in (shard for shards in splits.values() for shard in shards):
            if not SAFE_SHARD.fullmatch(shard.name):
                raise ValueError(f"{shard.name!r} is not the name of a shard")
        return cls(
            key=data["key"],
            source=data["source"],
            fields=data["fields"],
            splits=splits,
            spec=DataSpec.from_json(data["dataspec"]),
            content=data["content"],
        )


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write ``manifest`` into ``root``, with a checksum over itself."""
    data = manifest.to_json()
    (root / MANIFEST).write_text(json.dumps({**data, "sha256": checksum(data)}, indent=1) + "\n", encoding="utf-8")


def read_manifest(root: Path) -> Manifest:
    """The manifest in ``root``. Raises DataMissing where there is none, ShardCorrupt where it is damaged."""
    path = root / MANIFEST
    try:
        data = json.loads(path.read_bytes())
        expected, found = data.pop("sha256"), checksum(data)
        if found != expected:
            raise ValueError(f"expected sha256 {expected}, found {found}")
        return Manifest.from_json(data)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataMissing(f"no shards at {root}: there is no {MANIFEST}; run `expflow data build`") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardCorrupt(f"{path}: damaged ({error}); {how_to_rebuild(root)}") from error


def checksum(data: Mapping[str, Any]) -> str:
    """The sha256 of plain data, however its keys are ordered."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def how_to_rebuild(root: Path) -> str:
    """What to do about a damaged folder of shards."""
    return f"delete {root} and the same command builds it again"
