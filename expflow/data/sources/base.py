"""What a source offers to the builder of shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.data.dataspec import FieldSpec
from expflow.data.order import stratified_split
from expflow.errors import DataInvalid


class BadSample(Exception):
    """One sample that cannot be used; the message says why. The builder collects them and names them all."""


@dataclass(frozen=True)
class Item:
    """One sample before it is read: ``name`` is what messages and keys call it, ``label`` its class."""

    name: str
    label: int


@dataclass(frozen=True)
class Source:
    """A data source that was found: its splits as lists, and how to read one sample of them.

    ``fields`` maps a field to its extension in the shards, ``shapes`` to the shape and type it has once decoded.
    ``read`` returns each field's value, images as (height, width, channels) uint8; it raises :class:`BadSample`.
    """

    classes: tuple[str, ...]
    fields: Mapping[str, str]
    shapes: Mapping[str, FieldSpec]
    splits: Mapping[str, Sequence[Item]]
    read: Callable[[Item], Mapping[str, Any]]


def image_fields(channels: int, height: int, width: int) -> dict[str, Any]:
    """``fields`` and ``shapes`` of images with a class each."""
    return {
        "fields": {"image": "png", "label": "cls"},
        "shapes": {"image": FieldSpec((channels, height, width), "uint8"), "label": FieldSpec((), "int64")},
    }


def draw_splits(
    items: Sequence[Item], fractions: Mapping[str, float], seed: int, given: Mapping[str, Sequence[Item]] | None = None
) -> dict[str, list[Item]]:
    """``items`` as train and the parts of ``fractions``, in that order; what is ``given`` is kept and only shuffled.

    Raises DataInvalid where a split that was asked for would be empty.
    """
    drawn = {split: share for split, share in fractions.items() if share > 0 and split not in (given or {})}
    *parts, train = stratified_split([item.label for item in items], list(drawn.values()), seed)
    splits = {"train": [items[i] for i in train]}
    for split, part in zip(drawn, parts, strict=True):
        splits[split] = [items[i] for i in part]
    for split, own in (given or {}).items():
        (order,) = stratified_split([item.label for item in own], [], seed)
        splits[split] = [own[i] for i in order]
    if empty := [split for split, part in splits.items() if not part]:
        raise DataInvalid(
            f"{len(items)} images leave none for {' and '.join(empty)}: use more images, or set larger fractions"
        )
    return {split: splits[split] for split in ("train", *fractions) if split in splits}
