"""What every kind of field answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray
from PIL import Image

from expflow.data.dataspec import FieldSpec
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.shards.statistics import SampleCounts

if TYPE_CHECKING:
    from expflow.data.augment.geometry import SampleGeometry


@dataclass(frozen=True)
class Codec:
    """Both directions of one extension.

    Attributes:
        encode: makes the bytes of a member from a value.
        decode: makes the value from the bytes; raises ValueError or OSError on bytes that are not of its kind.
    """

    encode: Callable[..., bytes]
    decode: Callable[[bytes | memoryview], Any]


@dataclass
class SampleDrawing:
    """One sample on a contact sheet, to which each field adds what it shows.

    Attributes:
        picture: what is drawn, RGB; None before the image has been.
        words: what is written under it.
        points: which points objects have; None for none.
    """

    picture: Image.Image | None = None
    words: list[str] = field(default_factory=list)
    points: KeypointLayout | None = None


class FieldKind(ABC):
    """One kind of field.

    Attributes:
        codecs: extension of a member in shards to what writes and reads it.
        spatial: whether it is moved, cut and mirrored as the sample's image is.
        map: whether it has a value for each pixel of the sample's image, and so its height and width.
    """

    codecs: ClassVar[Mapping[str, Codec]]
    spatial: bool = False
    map: bool = False

    def of_member(self, value: Any, field: FieldSpec) -> NDArray[Any]:
        """Return the field of a sample from its decoded member, which several fields may have in common.

        Args:
            value: what the member's codec decoded.
            field: how it is stored.

        Raises:
            ValueError: it does not fit.
        """
        fitting: NDArray[Any] = value
        return fitting

    def batch_shape(self, field: FieldSpec, size: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of one sample in a batch, where all samples have the same.

        Args:
            field: how it is stored.
            size: (height, width) that the image has there.
        """
        return field.resized(*size).shape

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return what is taken of a decoded field. Only for spatial kinds, and not for the image itself.

        Args:
            pixels: the whole field.
            geometry: what is taken of the sample's image.
        """
        raise NotImplementedError

    def stored_bytes(self, field: FieldSpec) -> int:
        """Return how much room one sample of it takes in a shard, at most; 0 where that is not known or not worth it.

        Args:
            field: how it is stored.
        """
        return 0

    @abstractmethod
    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count one sample when shards are built.

        Args:
            counts: what was counted so far.
            split: the sample's split.
            value: what the source read.
        """

    @abstractmethod
    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Add one sample to its drawing.

        Args:
            drawing: what the fields before have drawn.
            content: the bytes of the member.
            extension: the member's extension.
            classes: names of the classes.
        """
