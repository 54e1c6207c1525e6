"""What a field of a sample can be: image, mask, class, several classes, numbers, boxes and what belongs to them.

Each kind is declared in one module here: its members in shards, what a batch holds of it, how it follows the part that
is taken of a sample's image, what a build counts of it, and how it is drawn. Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.kinds.boxes import BoxAreaKind, BoxesKind, BoxLabelKind, BoxScaleKind
from expflow.data.kinds.image import ImageKind
from expflow.data.kinds.instances import InstancesKind
from expflow.data.kinds.keypoints import KeypointsKind
from expflow.data.kinds.label import LabelKind
from expflow.data.kinds.labels import LabelsKind
from expflow.data.kinds.mask import MaskKind
from expflow.data.kinds.numbers import NumbersKind
from expflow.data.kinds.text import TextKind

__all__ = [
    "CODECS",
    "KINDS",
    "Codec",
    "FieldKind",
    "SampleDrawing",
    "decode",
    "encode",
    "field_value",
    "image_first",
    "kind_of",
]

KINDS: dict[str, FieldKind] = {
    "image": ImageKind(),
    "boxes": BoxesKind(),
    "box_label": BoxLabelKind(),
    "box_area": BoxAreaKind(),
    "box_scale": BoxScaleKind(),
    "keypoints": KeypointsKind(),
    "mask": MaskKind(),
    "instances": InstancesKind(),
    "label": LabelKind(),
    "labels": LabelsKind(),
    "numbers": NumbersKind(),
    "text": TextKind(),
}
"""Every kind of field that shards hold."""

CODECS: dict[str, Codec] = {extension: codec for kind in KINDS.values() for extension, codec in kind.codecs.items()}
"""Both directions of every extension. The list is closed: nothing else is ever decoded."""


def encode(extension: str, value: object) -> bytes:
    """Encode one field's value as the bytes of a shard's member.

    Args:
        extension: a key of :data:`CODECS`.
        value: for ``cls`` a class number; for an image (height, width, channels) uint8, or the bytes of an image file,
            which stay as they are; for ``mask.png`` (height, width) uint8, for ``instances.png`` int32; for
            ``boxes.json`` an :class:`~expflow.data.kinds.boxes.ObjectBoxes`.
    """
    return CODECS[extension].encode(value)


def decode(extension: str, content: bytes | memoryview) -> Any:
    """Decode a shard's member: an image to (channels, height, width) uint8, a mask to (height, width) uint8, a class
    number to int64, boxes to an :class:`~expflow.data.kinds.boxes.ObjectBoxes`.

    Args:
        extension: a key of :data:`CODECS`.
        content: the bytes of the member.

    Raises:
        ValueError: the bytes are not of that kind; OSError as well, from the image decoders.
    """
    return CODECS[extension].decode(content)


def field_value(field: FieldSpec, extension: str, content: bytes | memoryview) -> NDArray[Any]:
    """Decode a shard's member to one field of a sample.

    Args:
        field: how the field is stored.
        extension: a key of :data:`CODECS`.
        content: the bytes of the member.

    Raises:
        ValueError: as :func:`decode`, or the sample does not fit the field.
    """
    return kind_of(field).of_member(decode(extension, content), field)


def kind_of(field: FieldSpec) -> FieldKind:
    """Return the kind of a stored field.

    Args:
        field: its description.
    """
    return KINDS[field.kind]


_ORDER = {"image": 0, "boxes": 1}
"""Kinds that others follow."""


def image_first(fields: Mapping[str, str], spec: DataSpec) -> dict[str, str]:
    """Return the extensions of fields: the image first, since the others follow what is taken of it, then boxes.

    Args:
        fields: maps a field to its extension.
        spec: how the fields are stored.
    """
    return dict(sorted(fields.items(), key=lambda pair: _ORDER.get(spec.fields[pair[0]].kind, len(_ORDER))))
