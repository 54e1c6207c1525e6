"""The user's own images: a folder per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from expflow.data.sources.base import (
    BadSample,
    Item,
    Origin,
    Source,
    draw_splits,
    file_fields,
    here,
    image_fields,
    printable,
)
from expflow.data.sources.encoded import FileReader
from expflow.data.sources.listing import IMAGES, Listed, list_images
from expflow.data.sources.pillow import FORMATS, eight_bits
from expflow.data.specs import Folder
from expflow.errors import DataInvalid


def open_folder(spec: Folder, origin: Origin) -> Source:
    """The images below ``origin``. What has no folder of its own among val and test is drawn from train, by class.

    Raises DataInvalid where the folders do not make sense; images are opened only by ``read``.
    """
    root = here(origin, spec.name)
    listed = list_images(root)
    labels = tuple(sorted({each.label for each in listed if each.split in ("", "train")}))
    classes = tuple(map(printable, labels))
    if strangers := sorted({f"{each.split}/{each.label}" for each in listed} - _allowed(labels)):
        said = ", ".join(map(printable, strangers))
        raise DataInvalid(f"{root}: no such class in train: {said}; known: {', '.join(classes)}")
    given = {split: items for split in ("val", "test") if (items := _items(listed, (split,), labels))}
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    try:
        splits = draw_splits(_items(listed, ("", "train"), labels), fractions, spec.split_seed, given)
    except DataInvalid as error:
        raise DataInvalid(f"{root}: {error}") from error
    if spec.stored == "original":
        files = FileReader(
            root, spec.channels, spec.max_side, spec.quality, upright=True, restarts=spec.restart_markers
        )
        return Source(classes=classes, splits=splits, read=files, portable=True, **file_fields(spec.channels))
    resized = Resized(root, spec.image_size, spec.channels)
    fields = image_fields(spec.channels, spec.image_size, spec.image_size)
    return Source(classes=classes, splits=splits, read=resized, portable=True, **fields)


@dataclass(frozen=True)
class Resized:
    """Reads the images below ``root`` as :func:`read_image` does; it can be sent to other processes."""

    root: Path
    size: int
    channels: int

    def __call__(self, item: Item) -> Mapping[str, Any]:
        """The fields of one sample. Raises BadSample."""
        return {"image": read_image(self.root / item.name, self.size, self.channels), "label": item.label}


def _allowed(classes: Sequence[str]) -> set[str]:
    return {f"{split}/{label}" for split in ("", "train", "val", "test") for label in classes}


def _items(listed: Sequence[Listed], splits: tuple[str, ...], classes: tuple[str, ...]) -> list[Item]:
    number = {label: position for position, label in enumerate(classes)}
    return [Item(each.path, number[each.label], each.size, each.mtime_ns) for each in listed if each.split in splits]


def read_image(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """The image at ``path`` as (size, size, channels) uint8: turned as its EXIF says, resized, cropped in the middle.

    The shorter side becomes ``size`` (bilinear, antialiased). Raises BadSample, whatever is wrong with the file.
    """
    if path.suffix.lower() not in IMAGES:
        raise BadSample(f"{path.suffix or 'a file without extension'} is no image format that is read here")
    try:
        with Image.open(path, formats=FORMATS) as opened:
            image = eight_bits(ImageOps.exif_transpose(opened)).convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    except BadSample:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise BadSample(str(error).replace(str(path), path.name) or type(error).__name__) from error
    return pixels[..., None] if channels == 1 else pixels
