"""Truth beside prediction of a few images in one picture: masks painted over them, boxes with classes and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from expflow.data.dataspec import VOID
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.boxes import classes_of, is_ignored
from expflow.data.kinds.keypoints import draw_points, point_colours
from expflow.data.kinds.mask import painted, palette

MASK_SIDE, BOX_SIDE = 192, 288
"""Pixels of the longer side of an image in a picture of masks and of boxes, at most; smaller images are magnified by a
whole factor. Scores are written beside boxes, and need the room."""

SHOWN_SCORE = 0.3
"""Predictions with a smaller score are not drawn."""

POINT_RADIUS = 3
"""Pixels from the middle of a keypoint to its edge."""

MOST_LABELLED = 8
"""Boxes of an image at which class and score are written: more texts would hide each other and the image."""

MOST_NAMED = 24
"""Classes that the legend names, those that are seen first."""

_GAP, _LINE, _FONT = 6, 16, 11
_PAPER, _INK = (236, 236, 236), (20, 20, 20)
_SHAPE = 1.5
"""How much wider than high the picture is, about."""

Pixels = NDArray[np.uint8]
Row = Sequence[Image.Image]


def mask_picture(images: Pixels, true: Pixels, predicted: NDArray[Any], classes: Sequence[str]) -> Pixels:
    """Return images, and beside each its true and its predicted mask over the image in grey, (height, width, 3).

    Args:
        images: (n, c, h, w).
        true: (n, h, w) classes, 255 for void.
        predicted: (n, h, w) classes.
        classes: Names of the classes.
    """
    rows = []
    for whole, *masks in zip(_rgb(images), true, predicted, strict=True):
        image = _shrunk(whole, MASK_SIDE)
        over = [painted(_dim(image), _shrunk(mask.astype(np.uint8), MASK_SIDE), len(classes)) for mask in masks]
        rows.append([_magnified(picture, MASK_SIDE) for picture in (image, *over)])
    numbers = np.unique(np.concatenate([true.ravel(), predicted.ravel()])).tolist()
    colours = [*map(tuple, palette(len(classes)).tolist())]
    legend = [(classes[n], colours[n] if n else None) for n in numbers if n < len(classes)]
    legend += [("void", (255, 255, 255))] if VOID in numbers else []
    return _sheet(("image", "truth", "predicted"), rows, legend)


def box_picture(
    images: Pixels,
    true: Sequence[Mapping[str, NDArray[Any]]],
    predicted: Sequence[Mapping[str, NDArray[Any]]],
    classes: Sequence[str],
    layout: KeypointLayout | None = None,
) -> Pixels:
    """Return images with their true boxes, and beside each with the predicted ones, (height, width, 3).

    Args:
        images: (n, c, h, w).
        true: Of each image ``boxes`` (m, 4) in its pixels and ``labels`` (m,), negative where a region counts for
            nothing; perhaps ``masks`` (m, h, w) of bools, and ``keypoints`` (m, p, 3) x, y and visibility.
        predicted: Likewise, and ``scores`` (m,), none below :data:`SHOWN_SCORE`.
        classes: Names of the classes.
        layout: Which points the objects have; None for none.
    """
    rows, seen = [], set[int]()
    for image, there, given in zip(_rgb(images), true, predicted, strict=True):
        surest = np.argsort(-given["scores"], kind="stable")
        shown = {name: values[surest] for name, values in given.items()}
        rows.append([_with_boxes(image, objects, classes, layout) for objects in (there, shown)])
        seen |= {*classes_of(there["labels"]).tolist(), *shown["labels"].tolist()}
    colours = _box_colours(classes)
    legend = [(classes[number], colours[number]) for number in sorted(seen) if 0 <= number < len(classes)]
    if layout is not None:
        legend += zip(layout.names, point_colours(len(layout.names), len(classes)), strict=True)
    return _sheet(("truth", f"predicted, score {SHOWN_SCORE} and more"), rows, legend)


def _rgb(images: Pixels) -> Iterable[Pixels]:
    """(n, c, h, w) -> of each (h, w, 3); of other numbers of channels than three their mean, in grey."""
    for image in images.transpose(0, 2, 3, 1):
        yield image if image.shape[2] == 3 else _grey(image)


def _grey(image: NDArray[Any]) -> Pixels:
    return image.mean(2, keepdims=True).round().astype(np.uint8).repeat(3, axis=2)


def _dim(image: Pixels) -> Pixels:
    """An image in grey that is nowhere white: colours, and the white of void, stand out on it."""
    return _grey(0.75 * image)


def _box_colours(classes: Sequence[str]) -> list[tuple[int, ...]]:
    """A colour for each class of boxes: none of them is a background, which masks leave unpainted."""
    return [*map(tuple, palette(len(classes) + 1)[1:].tolist())]


def _scale(picture: Pixels, side: int) -> float:
    longest = max(picture.shape[:2])
    return side // longest if longest <= side else side / longest


def _shrunk(pixels: Pixels, side: int) -> Pixels:
    """An image (h, w, 3), or a map of classes (h, w), whose longer side has at most ``side`` pixels."""
    scale = _scale(pixels, side)
    if scale >= 1:
        return pixels
    size = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
    how = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def _magnified(pixels: Pixels, side: int) -> Image.Image:
    """As large as its cell, if by a whole factor: pixels keep their edges."""
    image, times = Image.fromarray(pixels), int(max(_scale(pixels, side), 1))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _with_boxes(
    whole: Pixels, objects: Mapping[str, NDArray[Any]], classes: Sequence[str], layout: KeypointLayout | None
) -> Image.Image:
    """An image with the masks, the boxes and the points of objects; frames are thin around what counts for nothing."""
    labels, numbers = objects["labels"], classes_of(objects["labels"])
    scale, image = _scale(whole, BOX_SIDE), _shrunk(whole, BOX_SIDE)
    if len(objects.get("masks", ())):
        mask = np.zeros(whole.shape[:2], np.uint8)
        for number, shape in zip(numbers[::-1].tolist(), objects["masks"][::-1], strict=True):
            mask[shape.astype(bool)] = number % (VOID - 1) + 1
        image = painted(_dim(image), _shrunk(mask, BOX_SIDE), min(len(classes) + 1, VOID))
    picture = _magnified(image, BOX_SIDE)
    pen, colours = ImageDraw.Draw(picture), _box_colours(classes)
    ignored = is_ignored(labels)
    rows = [row for row, number in enumerate(numbers.tolist()) if 0 <= number < len(classes)]
    for row in rows[::-1]:  # the surest on top
        left, top, right, bottom = (objects["boxes"][row] * scale).round().tolist()
        frame = (left, top, max(right - 1, left), max(bottom - 1, top))
        pen.rectangle(frame, outline=colours[numbers[row]], width=1 if ignored[row] else 2)
    if layout is not None and "keypoints" in objects:
        of_points = point_colours(len(layout.names), len(classes))
        draw_points(pen, objects["keypoints"][rows[::-1]] * [scale, scale, 1], layout, of_points, POINT_RADIUS)
    for row in rows[:MOST_LABELLED][::-1] if "scores" in objects else ():
        name = f"{classes[numbers[row]][:16]} " if len(classes) > 1 else ""
        text = f"{name}{objects['scores'][row]:.2f}"
        _write(picture, pen, objects["boxes"][row] * scale, text, colours[numbers[row]])
    return picture


def _write(
    picture: Image.Image, pen: ImageDraw.ImageDraw, box: NDArray[Any], text: str, colour: tuple[int, ...]
) -> None:
    """A text on a ground of its class's colour, above its box where there is room, within the picture."""
    font = ImageFont.load_default(_FONT)
    wide, high = pen.textlength(text, font) + 2, _FONT + 1
    left = min(max(box[0], 0), max(picture.width - wide, 0))
    top = box[1] - high if box[1] >= high else min(box[1], picture.height - high)
    pen.rectangle((left, top, left + wide, top + high), fill=colour)
    light = np.dot(colour, (0.299, 0.587, 0.114)) > 140
    pen.text((left + 1, top - 1), text, fill=_INK if light else (255, 255, 255), font=font)


def _sheet(titles: Sequence[str], rows: Sequence[Row], legend: Sequence[tuple[str, tuple[int, ...] | None]]) -> Pixels:
    """Rows of pictures under their titles, in several groups side by side, above a legend."""
    wide, high = (max(picture.size[axis] for row in rows for picture in row) for axis in (0, 1))
    step = len(titles) * (wide + _GAP) + _GAP
    groups = min(
        range(1, len(rows) + 1), key=lambda count: abs(count * step / (-(-len(rows) // count) * high) - _SHAPE)
    )
    lines, places = -(-len(rows) // groups), _legend_places(legend, groups * step)
    bottom = _LINE + lines * (high + _GAP)
    sheet = Image.new("RGB", (groups * step, bottom + (places[-1][1] + 1 if places else 0) * _LINE + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for number, row in enumerate(rows):
        group, line = divmod(number, lines)
        for column, picture in enumerate(row):
            left = group * step + _GAP + column * (wide + _GAP)
            sheet.paste(picture, (left, _LINE + line * (high + _GAP)))
            if line == 0:
                pen.text((left, 0), titles[column], fill=_INK, font=font)
    for (name, colour), (left, line) in zip(legend, places, strict=False):
        top = bottom + line * _LINE
        pen.rectangle((left, top + 2, left + 10, top + 12), fill=colour, outline=_INK)
        pen.text((left + 15, top), name, fill=_INK, font=font)
    return np.asarray(sheet)


def _legend_places(legend: Sequence[tuple[str, Any]], width: int) -> list[tuple[int, int]]:
    """Where each entry begins, in pixels, and in which line."""
    font, places, left, line = ImageFont.load_default(_FONT), list[tuple[int, int]](), _GAP, 0
    for name, _ in legend[:MOST_NAMED]:
        wide = round(font.getlength(name)) + 30
        if left > _GAP and left + wide > width:
            left, line = _GAP, line + 1
        places.append((left, line))
        left += wide
    return places
