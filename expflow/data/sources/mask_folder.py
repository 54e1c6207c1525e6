"""Reads images with a mask each."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from expflow.data.dataspec import VOID
from expflow.data.decode.errors import Undecodable
from expflow.data.kinds.mask import decode_mask, nearest_rows
from expflow.data.sources.base import BadSample, SampleRef, StoredImage, printable
from expflow.data.sources.image_files import LARGEST_IMAGE
from expflow.data.sources.mask_listing import MaskListing
from expflow.data.sources.pillow import FORMATS
from expflow.files import read_bounded

_TURNED = range(5, 9)
"""Directions of EXIF in which width and height change places."""


@dataclass(frozen=True)
class MaskedImageReader:
    """Reads an image and its mask; it can be sent to other processes.

    Attributes:
        root: the source's folder.
        read_image: reads the field ``image`` of a sample.
        classes: how many classes there are; masks hold smaller numbers, and 255.
        size: height and width that the shorter side of images is resized to, in pixels; None: they keep their size,
            unless ``read_image`` shrinks them.
        values: what the numbers in the files stand for, as pairs of number and class; empty: the classes themselves.
    """

    root: Path
    read_image: Callable[[SampleRef], Mapping[str, Any]]
    classes: int
    size: int | None
    values: tuple[tuple[int, int], ...] = ()

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read the fields of one sample. Raises BadSample."""
        image = self.read_image(item)["image"]
        name = item.beside[0][0]
        try:
            mask_hw = self._mask(name, upright_size(self.root / item.name))
        except (Undecodable, OSError) as error:
            raise BadSample(f"its mask {printable(name)}: {error}") from error
        if self.size is not None:
            fitted = ImageOps.fit(Image.fromarray(mask_hw), (self.size, self.size), Image.Resampling.NEAREST)
            return {"image": image, "mask": np.asarray(fitted)}
        if isinstance(image, StoredImage) and mask_hw.shape != (image.height, image.width):
            rows, columns = nearest_rows(len(mask_hw), image.height), nearest_rows(mask_hw.shape[1], image.width)
            mask_hw = mask_hw[rows[:, None], columns]
        return {"image": image, "mask": mask_hw}

    def _mask(self, name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The mask of an image of ``size`` (height, width). Raises Undecodable where it does not fit."""
        mask_hw = decode_mask(read_bounded(self.root / name, LARGEST_IMAGE))
        if mask_hw.shape != size:
            (height, width), (high, wide) = size, mask_hw.shape
            turned = ", turned as the image's EXIF says" if (width, height) == (high, wide) else ""
            raise Undecodable(
                f"it has {wide} x {high} pixels, and the image {width} x {height}; a mask has its size{turned}"
            )
        if self.values:
            mask_hw = self._translated(mask_hw)
        values = np.unique(mask_hw)
        if wrong := values[(values >= self.classes) & (values != VOID)].tolist():
            raise Undecodable(
                f"it holds {', '.join(map(str, wrong[:5]))}{', …' if len(wrong) > 5 else ''}, and data.classes names"
                f" {self.classes} classes, whose numbers are 0 to {self.classes - 1}; {VOID} is void. Correct the mask,"
                " or name all classes in their order"
            )
        return mask_hw

    def _translated(self, mask_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        known = [number for number, _ in self.values]
        if wrong := sorted(set(np.unique(mask_hw).tolist()) - set(known)):
            raise Undecodable(f"it holds {', '.join(map(str, wrong[:5]))}; expected {', '.join(map(str, known))}")
        classes = np.zeros(256, np.uint8)
        classes[known] = [number for _, number in self.values]
        return classes[mask_hw]


def upright_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image when it is turned as its EXIF says, from its header.

    Args:
        path: the image's file, which was read before.
    """
    with Image.open(io.BytesIO(read_bounded(path, LARGEST_IMAGE)), formats=FORMATS) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(0x0112, 1) in _TURNED else (height, width)


def values_of_masks(root: Path, listing: MaskListing, most: int) -> list[int]:
    """Return the values, without void, that masks hold, of at most so many masks that can be read.

    Args:
        root: the folder.
        listing: what lies in it.
        most: how many masks are opened.
    """
    values: set[int] = set()
    images = [image for images in listing.splits.values() for image in images]
    for image in images[:: max(1, len(images) // most)][:most]:
        try:
            values |= set(np.unique(decode_mask(read_bounded(root / image.mask[0], LARGEST_IMAGE))).tolist())
        except (Undecodable, OSError):
            continue
    return sorted(values - {VOID})
