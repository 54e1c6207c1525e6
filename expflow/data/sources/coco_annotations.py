"""COCO's files of annotations: what each says of its images. What cannot be right is named, nothing is guessed."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from expflow.data.sources.base import printable
from expflow.data.sources.coco_masks import check_outline
from expflow.data.sources.coco_points import layout_of, points_of
from expflow.errors import DataInvalid
from expflow.files import read_bounded

LARGEST_JSON = 2**32
"""Bytes of a file of annotations that are read; COCO's of train are half a gigabyte."""

MOST_NAMED = 10
"""What an error names; the rest are counted."""

LISTS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
"""What a file has, and the keys of each entry that are read."""

FORM = (
    "expected images (id, file_name, width, height), annotations (image_id, category_id, bbox [left, top, width,"
    " height] in pixels) and categories (id, name)"
)


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


def read_annotations(
    where: Path, spec: CocoSpec, passed_over: PassedOver
) -> tuple[tuple[str, ...], KeypointLayout | None, dict[str, AnnotatedImage]]:
    """Return the names of the classes and of their keypoints, and what is known of each image, by its file's name.

    Args:
        where: the file of annotations.
        spec: the recipe's source.
        passed_over: gets the boxes without area.

    Raises:
        DataInvalid: the file is of another form, something stands in it twice, or annotations cannot be right.
    """
    data = _lists(where)
    wrong = list(_repeated(data))
    categories = sorted(data["categories"], key=lambda category: (isinstance(category["id"], str), category["id"]))
    numbers = {category["id"]: number for number, category in enumerate(categories)}
    names = tuple(str(category["name"]) for category in categories)
    wanted = _wanted(where, spec, categories)
    of_image: dict[Any, list[Any]] = defaultdict(list)
    for annotation in data["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    about = {image["id"]: image for image in data["images"]}
    wrong += [f"annotations of an image {image!r}, which there is not" for image in of_image.keys() - about]
    images = {}
    for key, image in about.items():
        try:
            images[image["file_name"]] = _annotated(image, of_image[key], numbers, wanted, passed_over)
        except Undecodable as error:
            wrong.append(f"{image['file_name']}: {error}")
    if wrong:
        lines = "\n".join(f"  {printable(line)}" for line in wrong[:MOST_NAMED])
        more = f"\n  and {len(wrong) - MOST_NAMED:,} more" if len(wrong) > MOST_NAMED else ""
        entries = "1 entry" if len(wrong) == 1 else f"{len(wrong):,} entries"
        raise DataInvalid(f"{where}: {entries} that cannot be right; nothing was built:\n{lines}{more}")
    return names, wanted.points, images


def _lists(where: Path) -> dict[str, list[dict[str, Any]]]:
    """The three lists of a file, each of objects that have the keys that are read. Raises DataInvalid."""
    try:
        data = json.loads(read_bounded(where, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise DataInvalid(f"{where} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise DataInvalid(f"{where}: not of COCO's form (it holds no object); {FORM}")
    for name, keys in LISTS.items():
        entries = data.get(name)
        if not isinstance(entries, list):
            reason = f"{name} is no list" if name in data else f"no {name!r}"
            raise DataInvalid(f"{where}: not of COCO's form ({reason}); {FORM}")
        for number, entry in enumerate(entries):
            missing = [key for key in keys if key not in entry] if isinstance(entry, dict) else list(keys)
            ids = [entry[key] for key in keys if key.endswith("id") and key not in missing]
            if missing or not all(isinstance(value, (int, str)) for value in ids):
                reason = f"no {missing[0]!r}" if missing else f"an id that is neither a number nor a text: {ids}"
                known = entry.get("id", number) if isinstance(entry, dict) else number
                raise DataInvalid(f"{where}: not of COCO's form ({name}, {known}: {reason}); {FORM}")
    return data


def _repeated(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What stands twice where it names one thing."""
    for name, key in (
        ("categories", "id"),
        ("categories", "name"),
        ("images", "id"),
        ("images", "file_name"),
        ("annotations", "id"),
    ):
        counts = Counter(entry[key] for entry in data[name] if isinstance(entry.get(key), (int, str)))
        yield from (f"{name}: {key} {value!r} stands {count} times" for value, count in counts.items() if count > 1)


def _wanted(where: Path, spec: CocoSpec, categories: Sequence[Mapping[str, Any]]) -> WantedTruth:
    """What is read of a file. Raises DataInvalid where its categories name no keypoints, or wrong ones."""
    if spec.truth != "keypoints":
        return WantedTruth(spec.truth == "instances")
    try:
        layout, named = layout_of(categories, spec.mirrored_points)
    except ValueError as error:
        raise DataInvalid(f"{where}: {error}") from error
    return WantedTruth(points=layout, named=named)


def _numbers(annotation: Mapping[str, Any], key: str, count: int) -> list[float]:
    """The finite numbers of a key. Raises Undecodable."""
    value = annotation[key]
    row: Iterable[Any] = value if isinstance(value, list) else [value]
    numbers = [float(number) for number in row if isinstance(number, (int, float)) and math.isfinite(number)]
    if len(numbers) != count or (isinstance(value, list) and len(value) != count):
        expected = "4 numbers, left, top, width and height" if count > 1 else "a number"
        raise Undecodable(f"annotation {annotation.get('id')}: {key} is {value!r}; expected {expected}")
    return numbers


def _side(image: Mapping[str, Any], key: str) -> int:
    value = image[key]
    if not isinstance(value, (int, float)) or value != value or not 0 < value < 2**31:
        raise Undecodable(f"{key} is {value!r}; expected the image's in pixels")
    return int(value)


def _is_crowd(annotation: Mapping[str, Any]) -> bool:
    value = annotation.get("iscrowd") or 0
    if value not in (0, 1):
        raise Undecodable(f"annotation {annotation.get('id')}: iscrowd is {value!r}; expected 0 or 1")
    return bool(value)


def _area(annotation: Mapping[str, Any]) -> float:
    """In pixels; nan where it is not said."""
    if annotation.get("area") is None:
        return math.nan
    (area,) = _numbers(annotation, "area", 1)
    if area < 0:
        raise Undecodable(f"annotation {annotation.get('id')}: area is {area:g}; expected none below 0")
    return area


def _annotated(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    numbers: Mapping[Any, int],
    wanted: WantedTruth,
    passed_over: PassedOver,
) -> AnnotatedImage:
    """What is known of one image. Raises Undecodable where what is said of an object cannot be right."""
    width, height = _side(image, "width"), _side(image, "height")
    boxes, labels, areas, kept, points = [], [], [], [], []
    for annotation in annotations:
        left, top, wide, high = _numbers(annotation, "bbox", 4)
        if wide <= 0 or high <= 0:
            passed_over.add("boxes without area", f"{image['file_name']}: {annotation.get('id', '')}")
            continue
        if annotation["category_id"] not in numbers:
            raise Undecodable(f"annotation {annotation.get('id')}: there is no category {annotation['category_id']!r}")
        boxes.append((left, top, left + wide, top + high))
        crowd, difficult = _is_crowd(annotation), bool(annotation.get("difficult"))
        labels.append(label_code(numbers[annotation["category_id"]], crowd=crowd, difficult=difficult))
        areas.append(_area(annotation))
        if wanted.outlines:
            kept.append(outline := annotation.get("segmentation"))
            check_outline(outline, (height, width), annotation.get("id"))
        if wanted.points is not None:
            points.append(points_of(annotation, len(wanted.points.names), wanted.named))
    theirs = np.stack(points) if points else None
    check_boxes(ObjectBoxes.of(boxes, labels, points=theirs), height, width, len(numbers))
    return AnnotatedImage(width, height, tuple(boxes), tuple(labels), tuple(areas), tuple(kept), theirs)
