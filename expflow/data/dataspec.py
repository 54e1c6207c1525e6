"""What a model and a task need to know of the data, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FieldSpec:
    """One named field of a batch. ``shape`` is that of one sample: an image is (channels, height, width).

    ``varies``: the stored images have sizes of their own, and a loader cuts them to one. In a manifest their height and
    width are then 0; in what a model is built for, they are what the loader cuts to.
    """

    shape: tuple[int, ...]
    dtype: str
    varies: bool = False


@dataclass(frozen=True)
class DataSpec:
    """Fields, classes and sizes of a data source.

    ``samples`` maps a split (``train``, ``val``, ``test``) to its number of samples. ``mean`` and ``std`` are per
    channel, of the training images scaled to 0..1; normalisation happens on the device with them. ``synsets`` are the
    WordNet ids of the classes, in the classes' order, where the source has them.
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
        """Plain data; :meth:`from_json` reads it back."""
        return {
            "fields": {name: _plain(each) for name, each in self.fields.items()},
            "classes": list(self.classes),
            "samples": dict(self.samples),
            "mean": list(self.mean),
            "std": list(self.std),
            **({"synsets": list(self.synsets)} if self.synsets else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataSpec:
        """The DataSpec that :meth:`to_json` described."""
        return cls(
            fields={
                name: FieldSpec(tuple(each["shape"]), each["dtype"], each.get("varies", False))
                for name, each in data["fields"].items()
            },
            classes=tuple(data["classes"]),
            samples=dict(data["samples"]),
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            synsets=tuple(data.get("synsets", ())),
        )


def _plain(each: FieldSpec) -> dict[str, Any]:
    return {"shape": list(each.shape), "dtype": each.dtype, **({"varies": True} if each.varies else {})}
