"""What a source offers to the builder of shards: its samples as lists, and a function that reads one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import BOXES_MEMBER, FieldSpec
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.permutation import Ids
from expflow.data.shards.manifest import FIRST_READING
from expflow.data.shards.passed_over import PassedOver
from expflow.data.source_spec import Origin, ShardedSourceSpec, ValSplitSpec
from expflow.data.sources.grouped_split import check_groups, grouped_split
from expflow.data.sources.stratified_split import stratified_split
from expflow.errors import DataInvalid, DataMissing


class BadSample(Exception):
    """One sample that cannot be used; the message says why. The builder collects them and names them all."""


@dataclass(frozen=True, slots=True)
class SampleRef:
    """One sample before it is read.

    Attributes:
        name: what messages and keys call it; for files the path below the source's folder.
        label: its class; None where samples have no class as a whole.
        size: size of its files in bytes; 0 where it has none.
        mtime_ns: its file's time of change in nanoseconds.
        archive: path of the archive that it lies in; "" for a file of its own.
        offset: where it begins in the archive, in bytes.
        beside: path, size in bytes and time of change of each further file of it, such as its mask.
        group: what it shares with samples that must not be in another split, such as a photograph; "" for nothing.
        values: values of its fields that the list of samples holds already.
    """

    name: str
    label: int | None = None
    size: int = 0
    mtime_ns: int = 0
    archive: str = ""
    offset: int = 0
    beside: tuple[tuple[str, int, int], ...] = ()
    group: str = ""
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class StoredImage:
    """An image as the bytes that a shard holds, and what was seen when it was decoded to check it.

    Attributes:
        content: the bytes.
        histogram: (channels, 256), how often each value occurs.
        width: of the stored image, in pixels.
        height: of the stored image, in pixels.
        kind: format and mode of the source's file, such as ``JPEG RGB``.
        anew: whether it was encoded again rather than copied.
    """

    content: bytes
    histogram: NDArray[np.int64]
    width: int
    height: int
    kind: str
    anew: bool = False


ReadSample = Callable[[SampleRef], Mapping[str, Any]]
"""Reads one sample, and returns each field's value: an image as (height, width, channels) uint8 or as
:class:`StoredImage`, a mask as (height, width) uint8, a class as its number. Raises :class:`BadSample`."""


@dataclass(frozen=True)
class SampleSource:
    """A data source that was opened.

    Attributes:
        classes: names of the classes, in the order of their numbers.
        fields: maps a field to its extension in the shards.
        shapes: maps a field to the shape and type that it has once decoded.
        splits: maps a split to its samples, in the order in which they are stored.
        read: reads one sample.
        synsets: WordNet ids of the classes, where the source has them.
        portable: whether ``read`` can be sent to other processes, and is worth it.
        passed_over: files that lie among the samples and are not read.
        notes: what a user should know of how the files were understood.
        reading: the first rules of reading where they read the same from these files, else those of today. It is part
            of the data key.
    """

    classes: tuple[str, ...]
    fields: Mapping[str, str]
    shapes: Mapping[str, FieldSpec]
    splits: Mapping[str, Sequence[SampleRef]]
    read: ReadSample
    synsets: tuple[str, ...] = ()
    portable: bool = False
    passed_over: PassedOver = field(default_factory=PassedOver)
    notes: tuple[str, ...] = ()
    reading: int = FIRST_READING


def image_fields(channels: int, height: int, width: int) -> dict[str, Any]:
    """Return ``fields`` and ``shapes`` of images of one size with a class each, kept without loss.

    Args:
        channels: 3 for colour, 1 for grey.
        height: of all images, in pixels.
        width: of all images, in pixels.
    """
    return {
        "fields": {"image": "png", "label": "cls"},
        "shapes": {"image": FieldSpec((channels, height, width), "uint8"), "label": FieldSpec((), "int64")},
    }


def file_fields(channels: int) -> dict[str, Any]:
    """Return ``fields`` and ``shapes`` of image files of any size with a class each, kept as they are.

    Args:
        channels: 3 for colour, 1 for grey.
    """
    return {
        "fields": {"image": "jpg", "label": "cls"},
        "shapes": {"image": FieldSpec((channels, 0, 0), "uint8", varies=True), "label": FieldSpec((), "int64")},
    }


def with_mask(described: dict[str, Any]) -> dict[str, Any]:
    """Return ``fields`` and ``shapes`` with a mask of the image's size in the place of the class.

    Args:
        described: what :func:`image_fields` or :func:`file_fields` gave.
    """
    image = described["shapes"]["image"]
    mask = FieldSpec(image.shape[1:], "uint8", image.varies, "mask")
    return {
        "fields": {"image": described["fields"]["image"], "mask": "mask.png"},
        "shapes": {"image": image, "mask": mask},
    }


BOX_FIELDS = ("boxes", "box_label", "box_area", "box_scale")
"""The fields of boxes, whose values a source gives as one :class:`~expflow.data.kinds.boxes.ObjectBoxes`."""


def with_boxes(
    described: dict[str, Any], most: int, *, instances: bool = False, points: KeypointLayout | None = None
) -> dict[str, Any]:
    """Return ``fields`` and ``shapes`` with boxes in the place of the class.

    Args:
        described: what :func:`image_fields` or :func:`file_fields` gave.
        most: boxes of the fullest sample.
        instances: whether there is a map of the image's size as well, of which object each pixel is.
        points: which points each object has; None for none.
    """
    image = described["shapes"]["image"]
    rows = max(most, 1)
    shapes = {
        "boxes": FieldSpec((rows, 4), "float32", kind="boxes"),
        "box_label": FieldSpec((rows,), "int64", kind="box_label"),
        "box_area": FieldSpec((rows,), "float32", kind="box_area"),
        "box_scale": FieldSpec((), "float32", kind="box_scale"),
    }
    fields = dict.fromkeys(BOX_FIELDS, BOXES_MEMBER)
    if instances:
        fields = fields | {"instances": "instances.png"}
        shapes = shapes | {"instances": FieldSpec(image.shape[1:], "int32", image.varies, "instances")}
    if points is not None:
        fields = fields | {"keypoints": BOXES_MEMBER}
        of_points = FieldSpec((rows, len(points.names), 3), "float32", kind="keypoints", points=points)
        shapes = shapes | {"keypoints": of_points}
    return {
        "fields": {"image": described["fields"]["image"], **fields},
        "shapes": {"image": image, **shapes},
    }


def with_text(described: dict[str, Any], text: FieldSpec) -> dict[str, Any]:
    """Return ``fields`` and ``shapes`` with a text beside the image and its class.

    Args:
        described: what :func:`image_fields` or :func:`file_fields` gave.
        text: the field of the texts.
    """
    return {
        "fields": {**described["fields"], "text": "txt"},
        "shapes": {**described["shapes"], "text": text},
    }


def with_labels(described: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return ``fields`` and ``shapes`` with several classes of each sample in the place of one.

    Args:
        described: what :func:`image_fields` or :func:`file_fields` gave.
        classes: how many classes there are.
    """
    return {
        "fields": {"image": described["fields"]["image"], "labels": "labels.txt"},
        "shapes": {"image": described["shapes"]["image"], "labels": FieldSpec((classes,), "uint8", kind="labels")},
    }


def draw_splits(
    items: Sequence[SampleRef],
    fractions: Mapping[str, float],
    seed: int | str,
    given: Mapping[str, Sequence[SampleRef]] | None = None,
) -> dict[str, list[SampleRef]]:
    """Divide samples into train and drawn splits; splits that are given are kept and only shuffled.

    Where samples have a class, each split has the classes in proportion. Samples of one group are in one split.

    Args:
        items: the samples that are divided.
        fractions: maps each split that is drawn to its share of ``items``.
        seed: of the division, and of the order within each split; ``trial N``: val is drawn anew by N from what the
            seed 0 leaves for train and val, and all other splits are those of the seed 0.
        given: splits that the source has of its own.

    Returns:
        train, the splits of ``fractions`` and those of ``given``, in that order.

    Raises:
        DataInvalid: a split that was asked for would be empty, or given splits cut a group.
    """
    given = given or {}
    if isinstance(seed, str):
        trial_seed = int(seed.partition(" ")[2] or 0)
        return _with_own_val(draw_splits(items, fractions, 0, given), fractions, trial_seed, given)
    drawn = {split: share for split, share in fractions.items() if share > 0 and split not in given}
    *parts, train = _positions(items, list(drawn.values()), seed)
    pairs = zip(("train", *drawn), (train, *parts), strict=True)
    splits = {split: [items[i] for i in part] for split, part in pairs}
    for split, own in given.items():
        (order,) = _positions(own, [], seed)
        splits[split] = [own[i] for i in order]
    check_groups({split: [item.group for item in part] for split, part in splits.items()})
    if empty := [split for split, part in splits.items() if not part]:
        few = f"{len(items)} images{_of_groups(items)} leave none for {' and '.join(empty)}"
        raise DataInvalid(f"{few}: use more images, or set larger fractions")
    return {split: splits[split] for split in dict.fromkeys(("train", *fractions, *given)) if split in splits}


def _of_groups(items: Sequence[SampleRef]) -> str:
    groups = {item.group for item in items if item.group}
    return f" of {len(groups)} group{'' if len(groups) == 1 else 's'}, which stay whole," if groups else ""


def with_search_val(source: SampleSource, spec: ShardedSourceSpec) -> SampleSource:
    """Return a source whose val is a part of its train, where the recipe has ``search_val``: what a search may see.

    Args:
        source: the source, with all its splits.
        spec: the recipe's source.

    Raises:
        DataInvalid: train leaves no sample for one of the two.
    """
    share = spec.search_val if isinstance(spec, ValSplitSpec) else 0.0
    if not share:
        return source
    seed = spec.split_seed if isinstance(spec, ValSplitSpec) and isinstance(spec.split_seed, int) else 0
    return replace(source, splits=draw_splits(source.splits["train"], {"val": share}, seed))


def _positions(items: Sequence[SampleRef], fractions: Sequence[float], seed: int) -> list[Ids]:
    labels = [item.label or 0 for item in items]
    if any(item.group for item in items):
        return grouped_split([item.group for item in items], labels, fractions, seed)
    return stratified_split(labels, fractions, seed)


def _with_own_val(
    splits: dict[str, list[SampleRef]],
    fractions: Mapping[str, float],
    seed: int,
    given: Mapping[str, Sequence[SampleRef]],
) -> dict[str, list[SampleRef]]:
    """The splits, with val drawn anew from train and val; it keeps its size as far as the classes allow."""
    if "val" in given or "val" not in splits:
        raise DataInvalid("split_seed: trial draws val for each trial, and these data have a val of their own")
    pool = sorted((*splits["train"], *splits["val"]), key=lambda item: item.name)
    share = len(splits["val"]) / len(pool)
    val, train = _positions(pool, [share], seed)
    return {**splits, "train": [pool[i] for i in train], "val": [pool[i] for i in val]}


def local_folder(origin: Origin, name: str, where: str = "") -> Path:
    """Return an origin that must be a folder of this machine.

    Args:
        origin: the source's origin.
        name: the source's name, for messages.
        where: where one gets the files, for messages.

    Raises:
        DataMissing: it is an address, or no place of the files is named.
    """
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
    """Return a name fit for a terminal: bytes that are not UTF-8 are shown as ``\\xe4``.

    Args:
        name: a path with surrogate escapes.
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
