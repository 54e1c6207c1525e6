"""The user's own images: a folder per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from expflow.data.sources.base import BadSample, Item, Source, draw_splits, image_fields
from expflow.data.sources.listing import IMAGES, Listed, list_images
from expflow.data.specs import Folder
from expflow.errors import DataInvalid

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What a file may hold, whatever its name says: Pillow would hand an EPS to Ghostscript, which runs programs."""


def open_folder(spec: Folder, origin: Path | None) -> Source:
    """The images below ``origin``. What has no folder of its own among val and test is drawn from train, by class.

    Raises DataInvalid where the folders do not make sense; images are opened only by ``read``.
    """
    if origin is None:
        raise DataInvalid("a folder source needs its folder")
    listed = list_images(origin)
    classes = tuple(sorted({each.label for each in listed if each.split in ("", "train")}))
    if strangers := sorted({f"{each.split}/{each.label}" for each in listed} - _allowed(classes)):
        raise DataInvalid(f"{origin}: no such class in train: {', '.join(strangers)}; known: {', '.join(classes)}")
    given = {split: items for split in ("val", "test") if (items := _items(listed, (split,), classes))}
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    try:
        splits = draw_splits(_items(listed, ("", "train"), classes), fractions, spec.split_seed, given)
    except DataInvalid as error:
        raise DataInvalid(f"{origin}: {error}") from error

    def read(item: Item) -> Mapping[str, Any]:
        return {"image": read_image(origin / item.name, spec.image_size, spec.channels), "label": item.label}

    return Source(
        classes=classes,
        splits=splits,
        read=read,
        **image_fields(spec.channels, spec.image_size, spec.image_size),
    )


def _allowed(classes: Sequence[str]) -> set[str]:
    return {f"{split}/{label}" for split in ("", "train", "val", "test") for label in classes}


def _items(listed: Sequence[Listed], splits: tuple[str, ...], classes: tuple[str, ...]) -> list[Item]:
    number = {label: position for position, label in enumerate(classes)}
    return [Item(each.path, number[each.label]) for each in listed if each.split in splits]


def read_image(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """The image at ``path`` as (size, size, channels) uint8: turned as its EXIF says, resized, cropped in the middle.

    The shorter side becomes ``size`` (bilinear, antialiased). Raises BadSample, whatever is wrong with the file.
    """
    if path.suffix.lower() not in IMAGES:
        raise BadSample(f"{path.suffix or 'a file without extension'} is no image format that is read here")
    try:
        with Image.open(path, formats=FORMATS) as opened:
            image = _eight_bits(ImageOps.exif_transpose(opened)).convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    except BadSample:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise BadSample(str(error).replace(str(path), path.name) or type(error).__name__) from error
    return pixels[..., None] if channels == 1 else pixels


def _eight_bits(image: Image.Image) -> Image.Image:
    """``image`` with eight bits a channel and its transparency dropped, as other loaders of image folders do.

    Pillow alone would clip 16-bit grey to white, and warn about transparent palettes.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadSample(f"its pixels are 32-bit numbers (mode {image.mode}); save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image
