"""Photographs with boxes, described by COCO's JSON files: the data set itself, or a folder of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expflow.data.box_specs import CocoSpec
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.boxes import ObjectBoxes
from expflow.data.shards.passed_over import PassedOver
from expflow.data.source_spec import Origin
from expflow.data.sources.base import (
    BOX_FIELDS,
    BadSample,
    ReadSample,
    SampleRef,
    SampleSource,
    StoredImage,
    draw_splits,
    file_fields,
    local_folder,
    printable,
    with_boxes,
)
from expflow.data.sources.coco_annotations import AnnotatedImage, read_annotations
from expflow.data.sources.coco_files import FORMS, AnnotatedSplit, annotated_splits
from expflow.data.sources.coco_masks import painted_objects
from expflow.data.sources.image_files import ImageFileReader
from expflow.errors import DataInvalid, DataMissing

MOST_NAMED = 10
"""What an error names; the rest are counted."""


@dataclass(frozen=True)
class CocoReader:
    """Reads images with their boxes; it can be sent to other processes.

    Attributes:
        read_image: reads the field ``image`` of a sample.
        known: sample's name to what is known of it.
        instances: whether the objects' outlines are read.
        points: whether their keypoints are.
    """

    read_image: ReadSample
    known: Mapping[str, AnnotatedImage]
    instances: bool
    points: bool = False

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read the fields of one sample. Raises BadSample."""
        image, about = self.read_image(item)["image"], self.known[item.name]
        width, height = (image.width, image.height) if isinstance(image, StoredImage) else image.shape[1::-1]
        scale = about.width / width
        if abs(about.width / about.height - width / height) > 2 / min(width, height):
            raise BadSample(
                f"it has {width} x {height} pixels, and its annotations are for {about.width} x {about.height}"
            )
        points = None if about.points is None else about.points / np.asarray([scale, scale, 1], np.float32)
        boxes = ObjectBoxes.of(
            np.asarray(about.boxes, np.float32).reshape(-1, 4) / scale, about.labels, about.areas, scale, points
        )
        names = (*BOX_FIELDS, "keypoints") if self.points else BOX_FIELDS
        values = {"image": image, **dict.fromkeys(names, boxes)}
        if self.instances:
            try:
                values["instances"] = painted_objects(about.outlines, (about.height, about.width), (height, width))
            except ValueError as error:
                raise BadSample(f"segmentation: {error}") from error
        return values


def open_coco(spec: CocoSpec, origin: Origin) -> SampleSource:
    """List the images that files of annotations name. A val or test that has no file is drawn from train.

    Args:
        spec: the recipe's source.
        origin: the folder.

    Raises:
        DataMissing: there are no such files.
        DataInvalid: they are of another form, or boxes are outside of their images; the message names them.
    """
    root = local_folder(origin, spec.name, spec.where)
    passed_over, known = PassedOver(), dict[str, AnnotatedImage]()
    classes, layout, splits = _listed(root, spec, known, passed_over)
    given = {split: items for split, items in splits.items() if split != "train"}
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    try:
        drawn = draw_splits(splits["train"], fractions, spec.split_seed, given)
    except DataInvalid as error:
        raise DataInvalid(f"{root}: {error}") from error
    read_image = ImageFileReader(
        root, spec.channels, spec.max_side, spec.quality, upright=True, restarts=spec.restart_markers
    )
    most = max((len(image.labels) for image in known.values()), default=1)
    return SampleSource(
        classes=classes,
        splits=drawn,
        read=CocoReader(read_image, known, spec.truth == "instances", spec.truth == "keypoints"),
        portable=True,
        passed_over=passed_over,
        **with_boxes(file_fields(spec.channels), most, instances=spec.truth == "instances", points=layout),
    )


def _listed(
    root: Path, spec: CocoSpec, known: dict[str, AnnotatedImage], passed_over: PassedOver
) -> tuple[tuple[str, ...], KeypointLayout | None, dict[str, list[SampleRef]]]:
    """Names of the classes and their keypoints, and the samples of each split that has a file; ``known`` gets what is
    known of each.
    """
    listed = annotated_splits(root, points=spec.truth == "keypoints")
    if "train" not in listed:
        raise DataMissing(f"{root}: no annotations of train in it; expected one of {FORMS}")
    splits: dict[str, list[SampleRef]] = {}
    classes: tuple[str, ...] = ()
    layout: KeypointLayout | None = None
    for split, files in listed.items():
        names, points, images = read_annotations(files.annotations, spec, passed_over)
        if classes and names != classes:
            raise DataInvalid(f"{files.annotations}: its categories differ from those of train")
        if splits and points != layout:
            raise DataInvalid(f"{files.annotations}: its keypoints or their skeleton differ from those of train")
        classes, layout, splits[split] = names, points, list(_items(root, files, images))
        known |= {item.name: image for item, image in zip(splits[split], images.values(), strict=True)}
    return classes, layout, splits


def _items(root: Path, files: AnnotatedSplit, images: Mapping[str, AnnotatedImage]) -> Iterator[SampleRef]:
    missing = []
    for name in images:
        path = files.images / name
        try:
            stat = path.stat()
        except OSError:
            missing.append(name)
            continue
        yield SampleRef(path.relative_to(root).as_posix(), None, stat.st_size, stat.st_mtime_ns)
    if missing:
        shown = ", ".join(printable(name) for name in missing[:MOST_NAMED])
        raise DataMissing(
            f"{files.images}: {len(missing)} images that {files.annotations.name} names are not there: {shown}"
        )
