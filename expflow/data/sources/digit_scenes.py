"""Scenes with masks or boxes that need no download: real digits, drawn by seed on crops of real photographs.

They are composed, so masks and boxes are exact, and so nothing that is measured on them holds for photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.augment import sample_random
from expflow.data.dataspec import VOID
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.boxes import ObjectBoxes
from expflow.data.kinds.point_rows import HIDDEN, SEEN
from expflow.data.source_spec import Origin
from expflow.data.sources.base import (
    BOX_FIELDS,
    SampleRef,
    SampleSource,
    image_fields,
    with_boxes,
    with_labels,
    with_mask,
)
from expflow.data.sources.stratified_split import stratified_split
from expflow.data.specs import DigitScenesSpec, DigitsSpec
from expflow.errors import PackageMissing

PARTS = {"train": (0.0, 0.7, 0.0, 1.0), "val": (0.7, 1.0, 0.0, 0.5), "test": (0.7, 1.0, 0.5, 1.0)}
"""Which part of each photograph is the background of a split: left, right, top and bottom as shares of its size."""

DIGIT_SIDES = (0.25, 0.5)
"""Smallest and largest side of a digit, as shares of the scene's."""

DIGITS = 10

FADING, SOLID = 0.25, 0.5
"""A pixel that ink covers more than SOLID is the digit's, one less than FADING the background's, any other void."""

TIPS = KeypointLayout(
    ("topmost", "bottommost", "leftmost", "rightmost"), ((0, 2), (2, 1), (1, 3), (3, 0)), mirrored=(0, 1, 3, 2)
)
"""The points of a digit: where its ink ends on each side. In a mirrored scene the leftmost one is the rightmost."""

NOTE = (
    "these scenes are composed: scikit-learn's digits on crops of its two photographs, with exact masks; scores on them"
    " say nothing about photographs"
)


@dataclass(frozen=True)
class SceneComposer:
    """Composes scenes, each from its number alone; it can be sent to other processes.

    Attributes:
        spec: the recipe's source.
        digits_nhw: (n, 8, 8) how much ink covers each pixel, from 0 to 1.
        labels: which digit each one is.
        of_split: split to the numbers of its digits.
        photographs: (height, width, 3) each.
    """

    spec: DigitScenesSpec
    digits_nhw: NDArray[np.float32]
    labels: Sequence[int]
    of_split: Mapping[str, Sequence[int]]
    photographs: Sequence[NDArray[np.uint8]]

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Compose one scene."""
        split, _, number = item.name.partition("-")
        key = sample_random.sample_key(self.spec.scene_seed, list(PARTS).index(split), int(number))
        scene_hwc = self._background(split, key).astype(np.float32)
        mask_hw, instances_hw = (np.zeros(scene_hwc.shape[:2], dtype) for dtype in (np.uint8, np.int32))
        labels, tips = [], []
        for place in range(1 + sample_random.integer(key, 3, self.spec.most_digits)):
            labels.append(self._add_digit(scene_hwc, mask_hw, instances_hw, split, key, 10 * (1 + place)))
            if self.spec.truth == "keypoints":  # before another digit covers them
                tips.append(tips_of(instances_hw == 1 + place))
        image = scene_hwc.round().clip(0, 255).astype(np.uint8)
        if self.spec.truth == "masks":
            return {"image": image, "mask": mask_hw}
        if self.spec.truth == "labels":
            present = np.zeros(DIGITS, np.uint8)
            present[labels] = 1
            return {"image": image, "labels": present}
        classes = labels if self.spec.distinct else [0] * len(labels)
        if self.spec.truth == "keypoints":
            seen = [number for number in range(1, 1 + len(labels)) if (instances_hw == number).any()]
            points = np.stack([with_visibility(tips[number - 1], instances_hw == number) for number in seen])
            boxes = replace(outlined(instances_hw, classes)[0], points=points)
            return {"image": image, **dict.fromkeys((*BOX_FIELDS, "keypoints"), boxes)}
        boxes, instances_hw = outlined(instances_hw, classes)
        return {"image": image, **dict.fromkeys(BOX_FIELDS, boxes), "instances": instances_hw}

    def _background(self, split: str, key: int) -> NDArray[np.uint8]:
        photograph = self.photographs[sample_random.integer(key, 0, len(self.photographs))]
        height, width, _ = photograph.shape
        left, right, top, bottom = PARTS[split]
        rows, columns = (int(top * height), int(bottom * height)), (int(left * width), int(right * width))
        y, x = (
            first + sample_random.integer(key, number, last - first - self.spec.side + 1)
            for number, (first, last) in ((1, rows), (2, columns))
        )
        return photograph[y : y + self.spec.side, x : x + self.spec.side]

    def _add_digit(
        self,
        scene_hwc: NDArray[np.float32],
        mask_hw: NDArray[np.uint8],
        instances_hw: NDArray[np.int32],
        split: str,
        key: int,
        first: int,
    ) -> int:
        """Draw one digit into scene and masks, and return which it is; ``first`` is its first random number's."""
        chosen = self.of_split[split][sample_random.integer(key, first, len(self.of_split[split]))]
        share = sample_random.uniform_between(key, first + 1, *DIGIT_SIDES)
        side = max(round(share * self.spec.side), 8)
        y, x = (sample_random.integer(key, first + axis, self.spec.side - side + 1) for axis in (2, 3))
        colour = np.asarray([255 * sample_random.uniform(key, first + channel) for channel in (4, 5, 6)], np.float32)
        ink = Image.fromarray(self.digits_nhw[chosen]).resize((side, side), Image.Resampling.BICUBIC)
        ink_hw = np.asarray(ink, np.float32).clip(0, 1)
        part, of_mask, of_instances = (
            pixels[y : y + side, x : x + side] for pixels in (scene_hwc, mask_hw, instances_hw)
        )
        part += ink_hw[..., None] * (colour - part)
        of_mask[ink_hw > FADING] = VOID
        of_mask[ink_hw > SOLID] = 1 + self.labels[chosen] if self.spec.distinct else 1
        of_instances[ink_hw > FADING] = 0
        of_instances[ink_hw > SOLID] = first // 10
        return self.labels[chosen]


def tips_of(ink_hw: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the (row, column) of the pixels of :data:`TIPS`, (4, 2); of several that lie as far out the middle one.

    Args:
        ink_hw: (height, width) the pixels of one digit; there is one.
    """
    places = np.argwhere(ink_hw)
    tips = []
    for axis, end in ((0, np.min), (0, np.max), (1, np.min), (1, np.max)):
        outmost = places[places[:, axis] == end(places[:, axis])]
        tips.append(outmost[np.argsort(outmost[:, 1 - axis], kind="stable")][(len(outmost) - 1) // 2])
    return np.stack(tips)


def with_visibility(tips: NDArray[np.int64], seen_hw: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return points as a sample holds them, (4, 3): the centres of their pixels, and whether they are seen.

    Args:
        tips: (4, 2) as :func:`tips_of` gives them.
        seen_hw: (height, width) the pixels that are seen of the digit: others may cover it.
    """
    visibility = np.where(seen_hw[tips[:, 0], tips[:, 1]], SEEN, HIDDEN)
    return np.column_stack([tips[:, 1] + 0.5, tips[:, 0] + 0.5, visibility]).astype(np.float32)


def outlined(instances_hw: NDArray[np.int32], labels: Sequence[int]) -> tuple[ObjectBoxes, NDArray[np.int32]]:
    """Return the box around what is seen of each object, and the map with objects numbered as their boxes are.

    One that others cover wholly has no box.

    Args:
        instances_hw: (height, width) number of each pixel's object, from 1; 0 is none.
        labels: the class of each object.
    """
    boxes, seen, numbered = [], [], np.zeros_like(instances_hw)
    for number, label in enumerate(labels, start=1):
        rows, columns = np.nonzero(instances_hw == number)
        if len(rows):
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            seen.append(label)
            numbered[rows, columns] = len(boxes)
    return ObjectBoxes.of(boxes, seen), numbered


DIGITS_SPLIT_SEED = 0
"""Seed of the split of the digits themselves: the usual one of the source ``digits``."""


def open_digit_scenes(spec: DigitScenesSpec, origin: Origin) -> SampleSource:
    """Scenes of digits on photographs. The digits of each split are those of the source ``digits``.

    Args:
        spec: the recipe's source.
        origin: not used, since the images come with a package.

    Raises:
        PackageMissing: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise PackageMissing("digit_scenes need scikit-learn: pip install scikit-learn") from error
    digits, usual = load_digits(), DigitsSpec(name="digits")
    labels = [int(label) for label in digits.target]
    val, test, train = stratified_split(labels, [usual.val_fraction, usual.test_fraction], DIGITS_SPLIT_SEED)
    of_split = {"train": train.tolist(), "val": val.tolist(), "test": test.tolist()}
    photographs = [np.asarray(photograph, np.uint8) for photograph in load_sample_images().images]
    counts = {"train": spec.train_scenes, "val": spec.val_scenes, "test": spec.test_scenes}
    digit_names = tuple(map(str, range(DIGITS)))
    names = digit_names if spec.distinct or spec.truth == "labels" else ("digit",)
    return SampleSource(
        classes=("background", *names) if spec.truth == "masks" else names,
        splits={split: [SampleRef(f"{split}-{n}") for n in range(count)] for split, count in counts.items()},
        read=SceneComposer(spec, (digits.images / 16).astype(np.float32), labels, of_split, photographs),
        portable=True,
        notes=(NOTE,),
        **_stored(spec),
    )


def _stored(spec: DigitScenesSpec) -> dict[str, Any]:
    """Fields and shapes of what is asked for."""
    described = image_fields(3, spec.side, spec.side)
    if spec.truth == "masks":
        return with_mask(described)
    if spec.truth == "labels":
        return with_labels(described, DIGITS)
    points = TIPS if spec.truth == "keypoints" else None
    return with_boxes(described, spec.most_digits, instances=spec.truth == "instances", points=points)
