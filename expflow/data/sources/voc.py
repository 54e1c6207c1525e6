"""Pascal VOC 2012 in the layout of its archive: masks, and the classes of each photograph from its XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expflow.data.dataspec import VOID
from expflow.data.labelled_specs import VOC_CLASSES, VOC2012LabelsSpec, VOC2012Spec
from expflow.data.source_spec import Origin
from expflow.data.sources.base import (
    SampleRef,
    SampleSource,
    draw_splits,
    file_fields,
    local_folder,
    with_labels,
    with_mask,
)
from expflow.data.sources.image_files import ImageFileReader
from expflow.data.sources.mask_folder import MaskedImageReader
from expflow.errors import DataInvalid, DataMissing
from expflow.files import read_bounded

LARGEST_TEXT = 16 * 2**20
"""Bytes of a list or of an annotation that are read."""


def open_voc_masks(spec: VOC2012Spec, origin: Origin) -> SampleSource:
    """Open Pascal VOC's photographs with masks of classes; void is its outline and what is difficult.

    Args:
        spec: the recipe's source.
        origin: the folder that holds VOC2012, or that folder.

    Raises:
        DataMissing: lists, photographs or masks are not there.
    """
    root = _voc_folder(local_folder(origin, spec.name, spec.where), spec.where)
    train, official = (
        [_with_mask(root, name, spec.where) for name in _listed(root, f"Segmentation/{part}", spec.where)]
        for part in ("train", "val")
    )
    read_image = ImageFileReader(root, 3, spec.max_side, spec.quality, restarts=spec.restart_markers)
    return SampleSource(
        classes=("background", *VOC_CLASSES),
        splits=draw_splits(train, {"val": spec.val_fraction}, spec.split_seed, {"test": official}),
        read=MaskedImageReader(root, read_image, 1 + len(VOC_CLASSES), None),
        portable=True,
        **with_mask(file_fields(3)),
    )


def open_voc_labels(spec: VOC2012LabelsSpec, origin: Origin) -> SampleSource:
    """Open Pascal VOC's photographs with the classes whose objects their XML lists.

    Args:
        spec: the recipe's source.
        origin: the folder that holds VOC2012, or that folder.

    Raises:
        DataMissing: lists, photographs or annotations are not there.
        DataInvalid: an annotation is no XML, or names a class that there is not.
    """
    root = _voc_folder(local_folder(origin, spec.name, spec.where), spec.where)
    train, official = (
        [_with_classes(root, name, spec.where) for name in _listed(root, f"Main/{part}", spec.where)]
        for part in ("train", "val")
    )
    read_image = ImageFileReader(root, 3, spec.max_side, spec.quality, restarts=spec.restart_markers)
    return SampleSource(
        classes=VOC_CLASSES,
        splits=draw_splits(train, {"val": spec.val_fraction}, spec.split_seed, {"test": official}),
        read=LabelledFileReader(read_image),
        portable=True,
        **with_labels(file_fields(3), len(VOC_CLASSES)),
    )


@dataclass(frozen=True)
class LabelledFileReader:
    """Reads an image file, beside the classes that its sample lists; it can be sent to other processes.

    Attributes:
        read_image: reads the field ``image``.
    """

    read_image: ImageFileReader

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read the fields of one sample. Raises BadSample."""
        return {"image": self.read_image(item)["image"], "labels": np.array(item.values, np.uint8)}


def _voc_folder(root: Path, where: str) -> Path:
    for place in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (place / "ImageSets").is_dir() and (place / "JPEGImages").is_dir():
            return place
    raise DataMissing(
        f"no VOC2012 in {root}: expected ImageSets/ and JPEGImages/ in it, or in VOCdevkit/VOC2012; {where}"
    )


def _listed(root: Path, part: str, where: str) -> list[str]:
    path = root / "ImageSets" / f"{part}.txt"
    if not path.is_file():
        raise DataMissing(f"{path} is not there; {where}")
    return [line.split()[0] for line in read_bounded(path, LARGEST_TEXT).decode("ascii").splitlines() if line.strip()]


def _photograph(root: Path, name: str, where: str) -> SampleRef:
    path = f"JPEGImages/{name}.jpg"
    if not (root / path).is_file():
        raise DataMissing(f"{root / path} is not there; {where}")
    stat = (root / path).stat()
    return SampleRef(path, None, stat.st_size, stat.st_mtime_ns)


def _with_mask(root: Path, name: str, where: str) -> SampleRef:
    image, mask = _photograph(root, name, where), f"SegmentationClass/{name}.png"
    if not (root / mask).is_file():
        raise DataMissing(f"{root / mask} is not there; {where}")
    stat = (root / mask).stat()
    size = image.size + stat.st_size
    return SampleRef(image.name, None, size, image.mtime_ns, beside=((mask, stat.st_size, stat.st_mtime_ns),))


def _with_classes(root: Path, name: str, where: str) -> SampleRef:
    image, path = _photograph(root, name, where), root / "Annotations" / f"{name}.xml"
    if not path.is_file():
        raise DataMissing(f"{path} is not there; {where}")
    return SampleRef(image.name, None, image.size, image.mtime_ns, values=classes_in(path))


def classes_in(path: Path) -> tuple[int, ...]:
    """Return for each class 1 where an object of it is in the photograph, 255 where only difficult ones are, else 0.

    Args:
        path: the photograph's annotation.

    Raises:
        DataInvalid: it is no XML, or names a class that there is not.
    """
    content = read_bounded(path, LARGEST_TEXT)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataInvalid(f"{path} declares entities, which annotations of VOC have none of; get the file again")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 (without declarations there is nothing to expand)
    except ElementTree.ParseError as error:
        raise DataInvalid(f"{path} is no XML: {error}; get the file again") from error
    answers = [0] * len(VOC_CLASSES)
    for entry in root.iter("object"):
        name = (entry.findtext("name") or "").strip()
        if name not in VOC_CLASSES:
            raise DataInvalid(f"{path} has an object of the class {name!r}; known: {', '.join(VOC_CLASSES)}")
        number, difficult = VOC_CLASSES.index(name), (entry.findtext("difficult") or "0").strip() == "1"
        if not difficult:
            answers[number] = 1
        elif answers[number] == 0:
            answers[number] = VOID
    return tuple(answers)
