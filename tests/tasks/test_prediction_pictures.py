"""Pictures of truth beside prediction: what is where, in which colour, at any size of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.boxes import label_code
from expflow.data.kinds.mask import OPACITY, palette
from expflow.tasks.prediction_pictures import BOX_SIDE, MASK_SIDE, POINT_RADIUS, box_picture, mask_picture
from expflow.tasks.samples import drawn

NAMES = ("ground", "cat", "dog")
LINE, GAP = 16, 6
"""Pixels above the first row, and between two images."""


def black(number: int, height: int = 64, width: int = 64, channels: int = 3) -> NDArray[np.uint8]:
    return np.zeros((number, channels, height, width), np.uint8)


def objects(boxes: Sequence[Sequence[float]], labels: Sequence[int], scores: Sequence[float] = ()) -> dict[str, Any]:
    given = {"boxes": np.asarray(boxes, np.float32).reshape(-1, 4), "labels": np.asarray(labels, np.int64)}
    return {**given, "scores": np.asarray(scores, np.float32)} if scores else given


def colours_in(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def test_masks_are_painted_beside_their_image() -> None:
    true, predicted = np.zeros((2, 1, 64, 64), np.uint8)
    true[0, :32], predicted[0, :, :32], true[0, 60:] = 1, 2, 255
    picture = mask_picture(black(1), true, predicted, NAMES)
    inside = LINE + 10
    image, truth, predicted = (picture[inside, GAP + 10 + column * (MASK_SIDE + GAP)] for column in range(3))
    cat, dog = (OPACITY * palette(3)[1:]).round()
    assert image.tolist() == [0, 0, 0]
    assert truth.tolist() == cat.tolist()
    assert predicted.tolist() == dog.tolist()
    assert picture[LINE + MASK_SIDE - 1, 2 * GAP + MASK_SIDE + 10].min() == round(OPACITY * 255), "void is white"
    assert (picture[LINE, GAP + MASK_SIDE - 1] == 0).all(), "64 pixels are magnified to 192"


def test_the_legend_names_what_is_in_the_picture_alone() -> None:
    mask = np.zeros((1, 64, 64), np.uint8)
    legend_of = [colours_in(mask_picture(black(1), mask, mask + k, NAMES)[-LINE - GAP :]) for k in (0, 1)]
    cat, dog = (tuple(colour) for colour in palette(3)[1:].tolist())
    assert cat not in legend_of[0]
    assert cat in legend_of[1]
    assert dog not in legend_of[1]


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 1), (64, 48, 3), (375, 500, 3), (20, 900, 4)])
@pytest.mark.parametrize("number", [1, 6, 7])
def test_images_of_any_size_and_number_make_a_picture_of_a_pages_size(
    number: int, height: int, width: int, channels: int
) -> None:
    images = black(number, height, width, channels)
    masks = np.ones((number, height, width), np.uint8)
    boxes = [objects([[0, 0, width, height]], [0], [0.9]) for _ in range(number)]
    for picture in (mask_picture(images, masks, masks, NAMES), box_picture(images, boxes, boxes, NAMES)):
        assert picture.dtype == np.uint8
        assert drawn(picture) is picture
        assert max(picture.shape) <= 3 * (number + 1) * (BOX_SIDE + GAP)


def test_boxes_have_their_classs_colour_and_regions_that_count_for_nothing_are_thin() -> None:
    there = objects([[8, 8, 40, 40], [44, 44, 60, 60]], [1, label_code(2, difficult=True)])
    predicted = objects([[8, 8, 40, 40]], [2], [0.75])
    picture = box_picture(black(1), [there], [predicted], NAMES)
    colours, times = palette(4)[1:].tolist(), BOX_SIDE // 64
    row = picture[LINE + 24 * times, GAP:]
    assert [row[8 * times + x].tolist() for x in range(3)] == [colours[1], colours[1], [0, 0, 0]]
    thin = picture[LINE + 52 * times, GAP:]
    assert [thin[44 * times + x].tolist() for x in range(2)] == [colours[2], [0, 0, 0]]
    second = row[64 * times + GAP :]
    assert second[8 * times].tolist() == colours[2]


def test_the_surest_box_lies_on_top_and_masks_are_painted() -> None:
    mask = np.zeros((2, 64, 64), bool)
    mask[:, 20:50, 20:50] = True
    predicted = {**objects([[8, 8, 56, 56]] * 2, [0, 1], [0.4, 0.9]), "masks": mask}
    nothing = {**objects([], []), "masks": mask[:0]}
    picture = box_picture(black(1), [nothing], [predicted], NAMES)
    times = BOX_SIDE // 64
    left = 2 * GAP + 64 * times
    assert picture[LINE + 40 * times, left + 8 * times].tolist() == palette(4)[2].tolist()
    assert picture[LINE + 40 * times, left + 40 * times].tolist() == (OPACITY * palette(4)[2]).round().tolist()


def test_points_have_colours_of_their_own_and_hidden_ones_are_hollow() -> None:
    layout = KeypointLayout(("nose", "tail"))
    points = np.float32([[[20, 20, 2], [40, 40, 1]], [[0, 0, 0], [50, 10, 2]]])
    there = {**objects([[8, 8, 60, 60], [2, 2, 62, 62]], [0, 0]), "keypoints": points}
    nothing = {**objects([], []), "scores": np.zeros(0), "keypoints": points[:0]}
    picture = box_picture(black(1), [there], [nothing], NAMES, layout)
    times, colours = BOX_SIDE // 64, palette(6)[4:].tolist()

    def at(x: float, y: float) -> list[int]:
        return picture[LINE + round(y * times), GAP + round(x * times)].tolist()  # type: ignore[no-any-return]

    assert at(20, 20) == colours[0]
    assert at(40, 40) == [0, 0, 0]
    assert at(40 + POINT_RADIUS / times, 40) == colours[1]
    assert at(50, 10) == colours[1]
    assert at(0, 0) == [0, 0, 0], "a point that is not known is not drawn"
    assert {tuple(colour) for colour in colours} <= colours_in(picture[-LINE - GAP :]), "the legend names them"
