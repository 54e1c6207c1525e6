"""The prepared data of a recipe that names several sources: each has shards of its own, and one file says where.

slots-KEY/slots.json   slot -> the folder of its manifest, in the order in which they were named, the leading one first
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from expflow.config.schema import Recipe
from expflow.data.prepare.prepared import PreparedData, described_key
from expflow.data.shards.manifest import ShardManifest, checksum
from expflow.data.slots import joined_spec, naming_slot, slot_sources
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import DataMissing, StorageUnwritable
from expflow.files import write_atomically

SLOTS_FILE = "slots.json"


def prepare_slots(
    recipe: Recipe, prepare_one: Callable[[ShardedSourceSpec], PreparedData], cache: Path
) -> PreparedData | None:
    """The prepared data of a recipe with several sources; None where it has one or none.

    Args:
        recipe: The recipe.
        prepare_one: Finds or builds the shards of one source.
        cache: Folder of prepared data.

    Raises:
        UserError: Images of the slots differ in size or channels. Also what ``prepare_one`` raises, with the slot.
        StorageUnwritable: The cache cannot be written to.
    """
    parts = dict[str, PreparedData]()
    for slot, spec in slot_sources(recipe).items():
        with naming_slot(slot):
            parts[slot] = prepare_one(spec)
    if not parts:
        return None
    source = {"slots": {slot: dict(data.manifest.source) for slot, data in parts.items()}}
    key = described_key({"slots": {slot: data.key for slot, data in parts.items()}})
    known = all(data.manifest.content for data in parts.values())
    content = checksum({slot: data.manifest.content for slot, data in parts.items()}) if known else ""
    splits = {
        split: tuple(shard for data in parts.values() for shard in data.manifest.splits.get(split, ()))
        for split in dict.fromkeys(split for data in parts.values() for split in data.manifest.splits)
    }
    notes = tuple(f"{slot}: {line}" for slot, data in parts.items() for line in data.manifest.remarks())
    joined = joined_spec({slot: data.spec for slot, data in parts.items()})
    manifest = ShardManifest(key, source, {}, splits, joined, content, notes=notes)
    root = cache / f"slots-{key}"
    if known:
        _write_roots(root, {slot: data.root for slot, data in parts.items()})
    return PreparedData(root, manifest, joined, key)


def _write_roots(root: Path, folders: Mapping[str, Path]) -> None:
    text = json.dumps({slot: str(folder.absolute()) for slot, folder in folders.items()})
    path = root / SLOTS_FILE
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode(), durable=True)
    except OSError as error:
        raise StorageUnwritable(f"{path} cannot be written: {error.strerror or error}") from error


def slot_roots(root: Path) -> dict[str, Path]:
    """Folders of the shards of each slot, the leading one first.

    Args:
        root: What :func:`prepare_slots` gave as ``root``.

    Raises:
        DataMissing: It is not there.
    """
    try:
        folders = json.loads((root / SLOTS_FILE).read_text(encoding="utf-8"))
        return {str(slot): Path(folder) for slot, folder in folders.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataMissing(f"{root / SLOTS_FILE}, which says where the shards of each slot lie, is not there") from error
