"""What a source offers to the builder of shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import FieldSpec
from expflow.data.order import stratified_split
from expflow.errors import DataInvalid, DataMissing

Origin = Path | str | None
"""Where a source's files lie; see :data:`expflow.data.specs.Origin`."""


class BadSample(Exception):
    """One sample that cannot be used; the message says why. The builder collects them and names them all."""


@dataclass(frozen=True, slots=True)
class Item:
    """One sample before it is read: ``name`` is what messages and keys call it, ``label`` its class.

    ``size`` is that of its file (0 where it has none) and ``mtime_ns`` the file's time of change. In an archive it
    begins at ``offset`` of ``archive``.
    """

    name: str
    label: int
    size: int = 0
    mtime_ns: int = 0
    archive: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Encoded:
    """An image as the bytes that a shard holds, and what was seen when it was decoded to check it.

    ``histogram`` (channels, 256) counts the values of its pixels, ``width`` and ``height`` are the stored ones,
    ``kind`` is its format and mode, and ``anew`` says that it was encoded again rather than copied.
    """

    content: bytes
    histogram: NDArray[np.int64]
    width: int
    height: int
    kind: str
    anew: bool = False


Read = Callable[[Item], Mapping[str, Any]]
"""Each field's value: an image as (height, width, channels) uint8 or as :class:`Encoded`. Raises :class:`BadSample`."""


@dataclass(frozen=True)
class Source:
    """A data source that was found: its splits as lists, and how to read one sample of them.

    ``fields`` maps a field to its extension in the shards, ``shapes`` to the shape and type it has once decoded.
    ``portable``: ``read`` can be sent to other processes, and is worth it.
    """

    classes: tuple[str, ...]
    fields: Mapping[str, str]
    shapes: Mapping[str, FieldSpec]
    splits: Mapping[str, Sequence[Item]]
    read: Read
    synsets: tuple[str, ...] = ()
    portable: bool = False


def image_fields(channels: int, height: int, width: int) -> dict[str, Any]:
    """``fields`` and ``shapes`` of images of one size with a class each, kept without loss."""
    return {
        "fields": {"image": "png", "label": "cls"},
        "shapes": {"image": FieldSpec((channels, height, width), "uint8"), "label": FieldSpec((), "int64")},
    }


def file_fields(channels: int) -> dict[str, Any]:
    """``fields`` and ``shapes`` of image files of any size with a class each, kept as they are."""
    return {
        "fields": {"image": "jpg", "label": "cls"},
        "shapes": {"image": FieldSpec((channels, 0, 0), "uint8", varies=True), "label": FieldSpec((), "int64")},
    }


def draw_splits(
    items: Sequence[Item], fractions: Mapping[str, float], seed: int, given: Mapping[str, Sequence[Item]] | None = None
) -> dict[str, list[Item]]:
    """``items`` as train and the parts of ``fractions``, in that order; what is ``given`` is kept and only shuffled.

    Raises DataInvalid where a split that was asked for would be empty.
    """
    given = given or {}
    drawn = {split: share for split, share in fractions.items() if share > 0 and split not in given}
    *parts, train = stratified_split([item.label for item in items], list(drawn.values()), seed)
    splits = {"train": [items[i] for i in train]}
    for split, part in zip(drawn, parts, strict=True):
        splits[split] = [items[i] for i in part]
    for split, own in given.items():
        (order,) = stratified_split([item.label for item in own], [], seed)
        splits[split] = [own[i] for i in order]
    if empty := [split for split, part in splits.items() if not part]:
        raise DataInvalid(
            f"{len(items)} images leave none for {' and '.join(empty)}: use more images, or set larger fractions"
        )
    return {split: splits[split] for split in dict.fromkeys(("train", *fractions, *given)) if split in splits}


def here(origin: Origin, name: str, where: str = "") -> Path:
    """``origin`` as a folder of this machine. Raises DataMissing, saying ``where`` they come from, if it is none."""
    if isinstance(origin, Path):
        return origin
    command = f"expflow data build {name} --from FOLDER"
    if origin is not None:
        raise DataMissing(f"{origin} holds no shards of {name}; build them with `{command} --out {origin}`")
    source = f". For who has none: {where}" if where else ""
    raise DataMissing(
        f"nobody says where the files of {name} lie: run `{command}`, or name the folder under data: in the site file"
        + source
    )


def printable(name: str) -> str:
    """``name`` fit for a terminal: bytes that are not UTF-8 are shown as ``\\xe4``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
