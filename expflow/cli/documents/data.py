"""``data build``, ``data verify``, ``data stats`` and ``data show`` with ``--json``: what shards hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from expflow.data.dataspec import FieldSpec
from expflow.data.prepare.prepared import PreparedData
from expflow.data.shards.summary import read_statistics

DataAction = Literal["build", "verify", "stats", "show"]


NO_IMAGE = FieldSpec((), "uint8")
"""In the place of the images of data that have none."""


@dataclass(frozen=True)
class SplitSummary:
    """A split of shards.

    Attributes:
        samples: Its samples.
        shards: Its shards.
        bytes: Bytes of all of them.
        classes: Class -> its samples; empty where an older version built the shards.
    """

    samples: int
    shards: int
    bytes: int
    classes: Mapping[str, int]


@dataclass(frozen=True)
class BadImage:
    """An image that could not be read when the shards were built.

    Attributes:
        name: Its name.
        reason: What is wrong with it.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class DataDocument:
    """What shards hold.

    Attributes:
        document: Which document this is.
        version: Its version.
        action: What was done: ``verify`` has read every shard, and found each as its manifest says.
        source: Name of the source.
        key: Key of these data, which enters the id of every trial on them.
        place: Folder or address of the shards.
        splits: Split -> what it holds.
        classes: Names of the classes, by their numbers.
        image_shape: Channels, height and width; of images of their own sizes as they are trained on.
        varies: Whether images are of their own sizes.
        mean: Mean of each channel; empty where it was not counted.
        std: Deviation of each channel; likewise.
        sides: Shorter side of an image in pixels, from -> number of images; empty where it was not counted.
        kinds: Kind of file -> number of images; likewise.
        bad: Images that could not be read.
        notes: What a reader must know of them.
        picture: The file of ``data show``; empty otherwise.
    """

    document: Literal["data"]
    version: Literal[1]
    action: DataAction
    source: str
    key: str
    place: str
    splits: Mapping[str, SplitSummary]
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    varies: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sides: Mapping[str, int]
    kinds: Mapping[str, int]
    bad: tuple[BadImage, ...]
    notes: tuple[str, ...]
    picture: str


@dataclass(frozen=True)
class DataSlotsDocument:
    """What the shards of several data slots hold, where a file names a source under each.

    Attributes:
        document: Which document this is.
        version: Its version.
        action: What was done with all of them.
        slots: Slot -> what its shards hold.
        picture: The file of ``data show``, which has a part for each slot; empty otherwise.
    """

    document: Literal["data_slots"]
    version: Literal[1]
    action: DataAction
    slots: Mapping[str, DataDocument]
    picture: str


def described_data(
    action: DataAction, prepared: Mapping[str, PreparedData], picture: str = ""
) -> DataDocument | DataSlotsDocument:
    """The shards of one source or of several slots as plain data.

    Args:
        action: What was done.
        prepared: Slot -> its shards; "" -> those of the only source.
        picture: The file of ``data show``.
    """
    slots = {slot: data_document(action, data, picture) for slot, data in prepared.items()}
    return slots[""] if "" in slots else DataSlotsDocument("data_slots", 1, action, slots, picture)


def data_document(action: DataAction, data: PreparedData, picture: str = "") -> DataDocument:
    """Shards as plain data.

    Args:
        action: What was done.
        data: The shards.
        picture: The file of ``data show``.
    """
    manifest, spec = data.manifest, data.manifest.spec
    counts = read_statistics(data.root, manifest)
    splits = {
        split: SplitSummary(
            manifest.samples(split),
            len(shards),
            sum(shard.bytes for shard in shards),
            _by_class(counts.classes.get(split, {}) if counts else {}, spec.classes),
        )
        for split, shards in manifest.splits.items()
    }
    image = spec.fields.get("image", NO_IMAGE)
    return DataDocument(
        "data",
        1,
        action,
        str(manifest.source.get("name", "")),
        manifest.key,
        manifest.at or str(data.root),
        splits,
        tuple(spec.classes),
        tuple(image.shape),
        image.varies,
        tuple(spec.mean),
        tuple(spec.std),
        {str(side): count for side, count in sorted(counts.sides.items())} if counts else {},
        dict(counts.kinds) if counts else {},
        tuple(BadImage(name, reason) for name, reason in counts.bad) if counts else (),
        (*manifest.notes, *manifest.remarks()),
        picture,
    )


def _by_class(counted: Mapping[int, int], names: tuple[str, ...]) -> dict[str, int]:
    return {names[label]: count for label, count in sorted(counted.items())}
