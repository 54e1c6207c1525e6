"""Noto's emoji with their names: out of the archive of the npm package emoji-datasource-google."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.data.caption_specs import EMOJI_CATEGORIES, EMOJI_SIDE, NAME_FIELD, EmojiSpec
from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, image_fields, local_folder, with_text
from expflow.data.sources.npm_archive import NpmArchive
from expflow.data.sources.stamp_captions import on_white
from expflow.errors import DataInvalid

ARCHIVE = NpmArchive(
    "emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
)

LIST, PICTURES = "emoji.json", "img/google/64/"
"""Paths in the package: what there is, and the folder of the pictures of 64 pixels."""


@dataclass(frozen=True)
class EmojiReader:
    """Reads an emoji by its picture's name.

    Attributes:
        pictures: name to PNG.
        names: name to what the emoji is called.
    """

    pictures: Mapping[str, bytes]
    names: Mapping[str, str]

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read one emoji. Raises BadSample."""
        image = on_white(self.pictures[item.name], EMOJI_SIDE)
        return {"image": image, "label": item.label, "text": self.names[item.name]}


def open_emoji(spec: EmojiSpec, origin: Origin) -> SampleSource:
    """Emoji on white with names in small letters.

    Args:
        spec: the recipe's source.
        origin: the folder in which the archive lies.

    Raises:
        DataMissing: it does not lie there.
        DataInvalid: it is not the archive that was published, or a split would be empty.
    """
    folder = local_folder(origin, spec.name, spec.where)
    files = ARCHIVE.members(folder, lambda name: name == LIST or name.startswith(PICTURES))
    listed = json.loads(files[LIST]) if LIST in files else []
    chosen = {
        emoji["image"]: emoji
        for emoji in listed
        if emoji["category"] in EMOJI_CATEGORIES and PICTURES + emoji["image"] in files
    }
    if not chosen:
        raise DataInvalid(f"{folder}: the archive lists no emoji")
    items = [SampleRef(name, EMOJI_CATEGORIES.index(emoji["category"])) for name, emoji in sorted(chosen.items())]
    return SampleSource(
        classes=EMOJI_CATEGORIES,
        splits=draw_splits(items, {"val": spec.val_fraction, "test": spec.test_fraction}, spec.split_seed),
        read=EmojiReader(
            {name: files[PICTURES + name] for name in chosen},
            {name: emoji["name"].lower() for name, emoji in chosen.items()},
        ),
        **with_text(image_fields(3, EMOJI_SIDE, EMOJI_SIDE), NAME_FIELD),
    )


def fetch(name: str, folder: Path) -> Path:
    """Get the archive by npm.

    Args:
        name: the source's name.
        folder: where it goes.

    Returns:
        The folder.

    Raises:
        DataUnreachable: npm does not get it.
        DataInvalid: it is not the archive that was published.
    """
    return ARCHIVE.fetch(folder)
