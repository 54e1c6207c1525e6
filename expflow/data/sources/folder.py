"""The user's own images: a folder per class, or images with a mask each."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from expflow.data.dataspec import VOID
from expflow.data.source_spec import Origin
from expflow.data.sources.base import (
    BadSample,
    ReadSample,
    SampleRef,
    SampleSource,
    draw_splits,
    file_fields,
    image_fields,
    local_folder,
    printable,
    with_mask,
)
from expflow.data.sources.groups import TILE_GROUP, tiled_photographs, with_groups
from expflow.data.sources.image_files import ImageFileReader
from expflow.data.sources.listing import IMAGES, ListedImage, list_images
from expflow.data.sources.mask_folder import MaskedImageReader, values_of_masks
from expflow.data.sources.mask_listing import MaskedImage, holds_masks, list_masked_images
from expflow.data.sources.pillow import FORMATS, to_eight_bits
from expflow.data.specs import FolderSpec
from expflow.errors import DataInvalid
from expflow.files import open_regular

LOOKED_AT = 100
"""Masks that are opened to say which values they hold."""


def open_folder(spec: FolderSpec, origin: Origin) -> SampleSource:
    """List the images of a folder per class, or of ``images/`` and ``masks/``.

    A val or test without a folder of its own is drawn from train, by class where images have one.

    Images are opened only by the source's ``read``.

    Args:
        spec: the recipe's source.
        origin: the folder.

    Raises:
        DataInvalid: the folders do not make sense, or leave a split empty.
    """
    root = local_folder(origin, spec.name)
    if holds_masks(root):
        return _open_masked(spec, root)
    if spec.classes:
        raise DataInvalid(
            f"{root}: data.classes names the classes of masks, and there are no folders images/ and masks/ in it;"
            " remove the key where each class has a folder of its own"
        )
    listing = list_images(root)
    listed = listing.images
    labels = tuple(sorted({image.label for image in listed if image.split in ("", "train")}))
    classes = tuple(map(printable, labels))
    _refuse_unknown_classes(root, listed, labels)
    given = {split: items for split in ("val", "test") if (items := _items(listed, (split,), labels))}
    splits = _drawn(spec, root, _items(listed, ("", "train"), labels), given)
    read, fields = _reader(spec, root)
    understood = dict(listing.understood)
    understood["notes"] = (*understood.get("notes", ()), *_tile_notes(spec, [image.path for image in listed]))
    return SampleSource(classes=classes, splits=splits, read=read, portable=True, **understood, **fields)


def _drawn(
    spec: FolderSpec, root: Path, own: Sequence[SampleRef], given: Mapping[str, Sequence[SampleRef]]
) -> dict[str, list[SampleRef]]:
    """The splits, of which none has a part of a group. Raises DataInvalid."""
    if spec.group:
        own = with_groups(own, spec.group)
        given = {split: with_groups(items, spec.group) for split, items in given.items()}
        if not any(item.group for items in (own, *given.values()) for item in items):
            example = printable(own[0].name) if own else ""
            raise DataInvalid(f"{root}: data.group: {spec.group!r} is found in no path of an image, such as {example}")
    try:
        return draw_splits(own, {"val": spec.val_fraction, "test": spec.test_fraction}, spec.split_seed, given)
    except DataInvalid as error:
        raise DataInvalid(f"{root}: {error}") from error


def _tile_notes(spec: FolderSpec, paths: Sequence[str]) -> tuple[str, ...]:
    """A note where names look like tiles of photographs, and nobody said that these are groups."""
    if spec.group or not (photographs := tiled_photographs(paths)):
        return ()
    return (
        f"{len(paths)} images look by their names like tiles of {photographs} photographs, and parts of one may be in"
        f" train and val: say data.group: '{TILE_GROUP}' to keep each in one split",
    )


def _refuse_unknown_classes(root: Path, listed: Sequence[ListedImage], labels: tuple[str, ...]) -> None:
    if unknown := sorted({f"{image.split}/{image.label}" for image in listed} - _allowed(labels)):
        names = ", ".join(_distinct(name, labels) for name in unknown)
        known = ", ".join(map(printable, labels))
        raise DataInvalid(f"{root}: no such class in train: {names}; known: {known}")


def _reader(spec: FolderSpec, root: Path) -> tuple[ReadSample, dict[str, Any]]:
    """What reads the images, and how they are stored."""
    if spec.stored == "original":
        files = ImageFileReader(
            root, spec.channels, spec.max_side, spec.quality, upright=True, restarts=spec.restart_markers
        )
        return files, file_fields(spec.channels)
    resized = ResizedImageReader(root, spec.image_size, spec.channels)
    return resized, image_fields(spec.channels, spec.image_size, spec.image_size)


def _open_masked(spec: FolderSpec, root: Path) -> SampleSource:
    """Images with a mask each. Raises DataInvalid."""
    listing = list_masked_images(root)
    if not spec.classes:
        values = values_of_masks(root, listing, LOOKED_AT)
        names = ", ".join(["background", *(f"NAME_OF_{number}" for number in range(1, max(values, default=0) + 1))])
        raise DataInvalid(
            f"{root}: images with masks, whose classes have no names; write data.classes: [{names}], in the order of"
            f" the numbers in the masks (some masks hold {', '.join(map(str, values[:20]))}; {VOID} is void)"
        )
    own = _masked_items(listing.splits.get("", listing.splits.get("train", [])))
    given = {split: _masked_items(images) for split in ("val", "test") if (images := listing.splits.get(split))}
    splits = _drawn(spec, root, own, given)
    read_image, fields = _reader(spec, root)
    size = spec.image_size if spec.stored == "resized" else None
    read = MaskedImageReader(root, read_image, len(spec.classes), size)
    return SampleSource(
        classes=spec.classes,
        splits=splits,
        read=read,
        portable=True,
        passed_over=listing.passed_over,
        notes=_tile_notes(spec, [image.path for images in listing.splits.values() for image in images]),
        **with_mask(fields),
    )


def _masked_items(images: Sequence[MaskedImage]) -> list[SampleRef]:
    return [
        SampleRef(image.path, None, image.size + image.mask[1], image.mtime_ns, beside=(image.mask,))
        for image in images
    ]


@dataclass(frozen=True)
class ResizedImageReader:
    """Reads images as :func:`read_image` does; it can be sent to other processes.

    Attributes:
        root: the source's folder.
        size: height and width of the images that it returns, in pixels.
        channels: 3 for colour, 1 for grey.
    """

    root: Path
    size: int
    channels: int

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read the fields of one sample. Raises BadSample."""
        return {"image": read_image(self.root / item.name, self.size, self.channels), "label": item.label}


def _distinct(name: str, labels: Sequence[str]) -> str:
    """A split and class for a message; where it looks like a known class, with what differs written out."""

    def looks(text: str) -> str:
        return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))

    label = name.partition("/")[2]
    alike = [known for known in labels if looks(known) == looks(label)]
    return f"{printable(name)} ({label!a}, not {alike[0]!a})" if alike else printable(name)


def _allowed(classes: Sequence[str]) -> set[str]:
    return {f"{split}/{label}" for split in ("", "train", "val", "test") for label in classes}


def _items(listed: Sequence[ListedImage], splits: tuple[str, ...], classes: tuple[str, ...]) -> list[SampleRef]:
    number = {label: position for position, label in enumerate(classes)}
    chosen = (image for image in listed if image.split in splits)
    return [SampleRef(image.path, number[image.label], image.size, image.mtime_ns) for image in chosen]


def read_image(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Read an image as (size, size, channels) uint8: turned as its EXIF says, resized, cropped in the middle.

    Args:
        path: the image's file.
        size: what the shorter side becomes, in pixels (bilinear, antialiased).
        channels: 3 for colour, 1 for grey.

    Raises:
        BadSample: whatever is wrong with the file.
    """
    if path.suffix.lower() not in IMAGES:
        raise BadSample(f"{path.suffix or 'a file without extension'} is no image format that is read here")
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as opened:
            image = to_eight_bits(ImageOps.exif_transpose(opened), opened.format).convert(
                "L" if channels == 1 else "RGB"
            )
        pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    except BadSample:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise BadSample(str(error).replace(str(path), path.name) or type(error).__name__) from error
    return pixels[..., None] if channels == 1 else pixels
