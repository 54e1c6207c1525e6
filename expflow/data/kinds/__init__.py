"""What a field of a sample can be: image, mask or class.

Each kind is declared in one module here: its members in shards, what a batch holds of it, how it follows the part that
is taken of a sample's image, what a build counts of it, and how it is drawn. Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.kinds.image import ImageKind
from expflow.data.kinds.label import LabelKind
from expflow.data.kinds.mask import MaskKind

__all__ = ["CODECS", "KINDS", "Codec", "FieldKind", "SampleDrawing", "decode", "encode", "image_first", "kind_of"]

KINDS: dict[str, FieldKind] = {"image": ImageKind(), "mask": MaskKind(), "label": LabelKind()}
"""Every kind of field that shards hold."""

CODECS: dict[str, Codec] = {extension: codec for kind in KINDS.values() for extension, codec in kind.codecs.items()}
"""Both directions of every extension. The list is closed: nothing else is ever decoded."""


def encode(extension: str, value: object) -> bytes:
    """Encode one field's value as the bytes of a shard's member.

    Args:
        extension: a key of :data:`CODECS`.
        value: for ``cls`` a class number; for an image (height, width, channels) uint8, or the bytes of an image file,
            which stay as they are; for ``mask.png`` (height, width) uint8.
    """
    return CODECS[extension].encode(value)


def decode(extension: str, content: bytes | memoryview) -> NDArray[np.generic]:
    """Decode a shard's member: an image to (channels, height, width) uint8, a mask to (height, width) uint8, a class
    number to int64.

    Args:
        extension: a key of :data:`CODECS`.
        content: the bytes of the member.

    Raises:
        ValueError: the bytes are not of that kind; OSError as well, from the image decoders.
    """
    return CODECS[extension].decode(content)


def kind_of(field: FieldSpec) -> FieldKind:
    """Return the kind of a stored field.

    Args:
        field: its description.
    """
    return KINDS[field.kind]


def image_first(fields: Mapping[str, str], spec: DataSpec) -> dict[str, str]:
    """Return the extensions of fields, that of the image first: the others follow what is taken of it.

    Args:
        fields: maps a field to its extension.
        spec: how the fields are stored.
    """
    return dict(sorted(fields.items(), key=lambda pair: spec.fields[pair[0]].kind != "image"))
