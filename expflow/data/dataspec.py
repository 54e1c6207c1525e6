"""What a model and a task need to know of the data. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from expflow.data.keypoint_layout import KeypointLayout

Kind = Literal[
    "image",
    "mask",
    "boxes",
    "box_label",
    "box_area",
    "box_scale",
    "keypoints",
    "instances",
    "label",
    "labels",
    "numbers",
    "text",
    "array",
]
"""What a field holds, and so how it is stored, cut, put into batches and drawn: :mod:`expflow.data.kinds`. ``array`` is
for numbers that a trial makes itself, such as kept features; shards hold none."""

VOID = 255
"""The value of a mask's pixels that belong to no class: no loss and no metric counts them."""

BOXES_MEMBER = "boxes.json"
"""Extension of the member that all fields of boxes come from."""


@dataclass(frozen=True)
class FieldSpec:
    """One named field of a batch.

    Attributes:
        shape: of one sample: an image is (channels, height, width), a mask (height, width), a class ().
        dtype: the name of its numpy type.
        varies: whether the stored images have sizes of their own, and a loader cuts them to one. In a manifest their
            height and width are then 0; in what a model is built for, they are what the loader cuts to.
        kind: what it holds; where nothing is said, an image, a class or an array by its shape and type.
        vocabulary: of a text: its tokens, in the order of their numbers.
        palette: of an image: colours that tasks may name its pixels by, one number for each channel; () for none.
        points: of keypoints: which ones an object has.
    """

    shape: tuple[int, ...]
    dtype: str
    varies: bool = False
    kind: Kind = "array"
    vocabulary: tuple[str, ...] = ()
    palette: tuple[tuple[int, ...], ...] = ()
    points: KeypointLayout | None = None

    def __post_init__(self) -> None:
        if self.kind == "array":
            object.__setattr__(self, "kind", _usual_kind(self.shape, self.dtype))

    def resized(self, height: int, width: int) -> FieldSpec:
        """Return the field with another height and width; one that has none stays as it is.

        Args:
            height: in pixels.
            width: in pixels.
        """
        if self.kind not in ("image", "mask", "instances"):
            return self
        return replace(self, shape=(*self.shape[:-2], height, width))


def _usual_kind(shape: tuple[int, ...], dtype: str) -> Kind:
    if len(shape) == 3 and dtype == "uint8":
        return "image"
    return "label" if shape == () and dtype == "int64" else "array"


@dataclass(frozen=True)
class DataSpec:
    """Fields, classes and sizes of a data source.

    Attributes:
        fields: maps a field's name to its shape and type.
        classes: names of the classes, in the order of their numbers.
        samples: maps a split (``train``, ``val``, ``test``) to its number of samples.
        mean: per channel, of the training images scaled to 0..1; images are normalised with it on the device.
        std: per channel, likewise.
        synsets: WordNet ids of the classes, in the classes' order, where the source has them.
    """

    fields: Mapping[str, FieldSpec]
    classes: tuple[str, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    synsets: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where the data have none."""
        return len(self.classes)

    def of_kind(self, kind: Kind) -> tuple[str, ...]:
        """Return the names of the fields of one kind.

        Args:
            kind: the kind.
        """
        return tuple(name for name, spec in self.fields.items() if spec.kind == kind)

    @property
    def points(self) -> KeypointLayout | None:
        """The points of each object; None where the data have none."""
        return next((spec.points for spec in self.fields.values() if spec.kind == "keypoints"), None)

    def outputs(self, name: str) -> int:
        """Return how many scores or numbers a network gives for a field.

        Args:
            name: the field: of the kind ``label``, ``labels`` or ``numbers``.
        """
        return self.num_classes if self.fields[name].kind == "label" else self.fields[name].shape[0]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the field ``image``. Raises KeyError where there is no such field."""
        channels, height, width = self.fields["image"].shape
        return channels, height, width

    @property
    def in_channels(self) -> int:
        """Channels of the field ``image``."""
        return self.image_shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the field ``image``."""
        return self.image_shape[1:]

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` reads back."""
        return {
            "fields": {name: _field_to_json(field_spec) for name, field_spec in self.fields.items()},
            "classes": list(self.classes),
            "samples": dict(self.samples),
            "mean": list(self.mean),
            "std": list(self.std),
            **({"synsets": list(self.synsets)} if self.synsets else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataSpec:
        """Rebuild the data spec that :meth:`to_json` described.

        Args:
            data: the plain data.
        """
        return cls(
            fields={
                name: FieldSpec(
                    tuple(plain["shape"]),
                    plain["dtype"],
                    plain.get("varies", False),
                    plain.get("kind", "array"),
                    tuple(plain.get("vocabulary", ())),
                    tuple(tuple(colour) for colour in plain.get("palette", ())),
                    KeypointLayout.from_json(plain["points"]) if "points" in plain else None,
                )
                for name, plain in data["fields"].items()
            },
            classes=tuple(data["classes"]),
            samples=dict(data["samples"]),
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            synsets=tuple(data.get("synsets", ())),
        )


def _field_to_json(field_spec: FieldSpec) -> dict[str, Any]:
    varies = {"varies": True} if field_spec.varies else {}
    usual = field_spec.kind == _usual_kind(field_spec.shape, field_spec.dtype)  # older versions know no other
    kind = {} if usual else {"kind": field_spec.kind}
    words = {"vocabulary": list(field_spec.vocabulary)} if field_spec.vocabulary else {}
    colours = {"palette": [list(colour) for colour in field_spec.palette]} if field_spec.palette else {}
    points = {"points": field_spec.points.to_json()} if field_spec.points is not None else {}
    sized = {"shape": list(field_spec.shape), "dtype": field_spec.dtype, **varies}
    return {**sized, **kind, **words, **colours, **points}
