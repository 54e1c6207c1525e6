"""Photographs with boxes, described by COCO's JSON files: the data set itself, or a folder of one's own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.box_specs import CocoSpec
from expflow.data.decode.errors import Undecodable
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.boxes import ObjectBoxes, check_boxes, label_code
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
from expflow.data.sources.coco_files import FORMS, AnnotatedSplit, annotated_splits
from expflow.data.sources.coco_masks import painted_objects
from expflow.data.sources.coco_points import layout_of, points_of
from expflow.data.sources.image_files import ImageFileReader
from expflow.errors import DataInvalid, DataMissing
from expflow.files import read_bounded

LARGEST_JSON = 2**32
"""Bytes of a file of annotations that are read; COCO's of train are half a gigabyte."""

MOST_NAMED = 10
"""What an error names; the rest are counted."""


@dataclass(frozen=True)
class AnnotatedImage:
    """What a file of annotations says of one image.

    Attributes:
        width: in pixels.
        height: in pixels.
        boxes: (n, 4) left, top, right, bottom in its pixels.
        labels: (n,) as in batches.
        areas: (n,) in pixels, nan where they are not said.
        outlines: polygons or run lengths of each object, as they stand in the file; empty where they are not read.
        points: (n, p, 3) x, y in its pixels and visibility of each object's keypoints; None where they are not read.
    """

    width: int
    height: int
    boxes: tuple[tuple[float, float, float, float], ...]
    labels: tuple[int, ...]
    areas: tuple[float, ...]
    outlines: tuple[Any, ...] = ()
    points: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class WantedTruth:
    """What is read of a file of annotations beside boxes and classes.

    Attributes:
        outlines: whether objects' outlines are.
        points: which keypoints; None for none.
        named: ids of the categories that have keypoints.
    """

    outlines: bool = False
    points: KeypointLayout | None = None
    named: frozenset[Any] = frozenset()


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
        names, points, images = _read(files, spec, passed_over)
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


def _wanted(where: Path, spec: CocoSpec, categories: Sequence[Mapping[str, Any]]) -> WantedTruth:
    """What is read of a file. Raises DataInvalid where its categories name no keypoints, or wrong ones."""
    if spec.truth != "keypoints":
        return WantedTruth(spec.truth == "instances")
    try:
        layout, named = layout_of(categories, spec.mirrored_points)
    except ValueError as error:
        raise DataInvalid(f"{where}: {error}") from error
    return WantedTruth(points=layout, named=named)


def _read(
    files: AnnotatedSplit, spec: CocoSpec, passed_over: PassedOver
) -> tuple[tuple[str, ...], KeypointLayout | None, dict[str, AnnotatedImage]]:
    """Names of the classes and of their keypoints, and file name of each image to what is known of it.

    Raises DataInvalid.
    """
    where = files.annotations
    try:
        data = json.loads(read_bounded(where, LARGEST_JSON))
        categories = sorted(data["categories"], key=lambda category: category["id"])
        numbers = {category["id"]: number for number, category in enumerate(categories)}
        about = {image["id"]: image for image in data["images"]}
        of_image: dict[Any, list[Any]] = defaultdict(list)
        for annotation in data["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        names = tuple(str(category["name"]) for category in categories)
        wanted = _wanted(where, spec, categories)
        wrong: list[str] = [
            f"annotations of an image {image!r}, which there is not" for image in of_image.keys() - about
        ]
        images = {}
        for key, image in about.items():
            try:
                images[image["file_name"]] = _annotated(image, of_image[key], numbers, wanted, passed_over)
            except Undecodable as error:
                wrong.append(f"{image['file_name']}: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataInvalid(
            f"{where}: not of COCO's form ({reason}); expected images (id, file_name, width, height), annotations"
            " (image_id, category_id, bbox [left, top, width, height] in pixels) and categories (id, name)"
        ) from error
    if wrong:
        lines = "\n".join(f"  {printable(line)}" for line in wrong[:MOST_NAMED])
        raise DataInvalid(
            f"{where}: {len(wrong)} images whose annotations cannot be right; nothing was built:\n{lines}"
        )
    return names, wanted.points, images


def _annotated(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    numbers: Mapping[Any, int],
    wanted: WantedTruth,
    passed_over: PassedOver,
) -> AnnotatedImage:
    """What is known of one image. Raises Undecodable where a box or a point lies out of it."""
    width, height = int(image["width"]), int(image["height"])
    boxes, labels, areas, kept, points = [], [], [], [], []
    for annotation in annotations:
        left, top, wide, high = map(float, annotation["bbox"])
        if wide <= 0 or high <= 0:
            passed_over.add("boxes without area", f"{image['file_name']}: {annotation.get('id', '')}")
            continue
        if annotation["category_id"] not in numbers:
            raise Undecodable(f"annotation {annotation.get('id')}: there is no category {annotation['category_id']!r}")
        boxes.append((left, top, left + wide, top + high))
        crowd, difficult = bool(annotation.get("iscrowd")), bool(annotation.get("difficult"))
        labels.append(label_code(numbers[annotation["category_id"]], crowd=crowd, difficult=difficult))
        areas.append(float(annotation.get("area", np.nan)))
        if wanted.outlines:
            kept.append(annotation.get("segmentation"))
        if wanted.points is not None:
            points.append(points_of(annotation, len(wanted.points.names), wanted.named))
    theirs = np.stack(points) if points else None
    check_boxes(ObjectBoxes.of(boxes, labels, points=theirs), height, width, len(numbers))
    return AnnotatedImage(width, height, tuple(boxes), tuple(labels), tuple(areas), tuple(kept), theirs)
