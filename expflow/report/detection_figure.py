"""Draws what a detector found and what it missed: truth beside prediction, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.boxes import classes_of, is_ignored
from expflow.data.kinds.keypoints import point_colours
from expflow.data.kinds.mask import palette
from expflow.data.kinds.point_rows import HIDDEN
from expflow.report.canvas import (
    INK,
    RenderedFigure,
    escape_mathtext,
    new_figure,
    render_figure,
    truncated,
    write_title,
)
from expflow.tasks.detections import SURE, DetectionArrays, image_quality

CASES = 6
"""Images in a row of best or worst cases."""

_MOST_NAMED = 12

CAPTION = (
    f"Boxes with a score of {SURE} and more. Written below: the overlaps of those that are right, summed, over their"
    " number and half of that of wrong and missed ones; below the surest mistakes, the highest score of a wrong box."
    " The metric ap is over all boxes of the split. Dashed: what counts for nothing."
)

OF_POINTS = "Dots are keypoints, hollow where they are hidden; the images are ranked by their boxes."


@dataclass(frozen=True)
class DetectionCases:
    """Rows of a split's detections (not ids), and what is written below each.

    Attributes:
        best: Highest quality first.
        worst: Lowest quality first.
        surest_mistakes: Wrong boxes, that of the highest score first.
        words: Row to its quality or score, in each group.
    """

    best: tuple[int, ...]
    worst: tuple[int, ...]
    surest_mistakes: tuple[int, ...]
    words: tuple[Mapping[int, str], ...]

    def rows(self) -> set[int]:
        """All of them."""
        return {*self.best, *self.worst, *self.surest_mistakes}


def select_detections(arrays: DetectionArrays, count: int = CASES) -> DetectionCases:
    """The images whose objects are found best and worst, and those with the surest wrong boxes.

    Args:
        arrays: A trial's detections on one split.
        count: The most images of each kind.
    """
    measured = [image_quality(arrays, row) for row in range(len(arrays))]
    qualities, scores = (np.asarray([getattr(m, name) for m in measured]) for name in ("quality", "surest_wrong"))
    known = np.flatnonzero(~np.isnan(qualities))
    if not len(known):  # nothing is there, and nothing was predicted
        known = np.arange(len(arrays))
    order = known[np.argsort(-qualities[known], kind="stable")]
    sure = np.flatnonzero(scores > 0)
    wrong = sure[np.argsort(-scores[sure], kind="stable")]
    groups = (order[:count], order[::-1][:count], wrong[:count])
    written = [
        {row: f"{values[row]:.3f}" for row in group.tolist()}
        for group, values in zip(groups, (qualities, qualities, scores), strict=True)
    ]
    best, worst, mistakes = (tuple(group.tolist()) for group in groups)
    return DetectionCases(best, worst, mistakes, tuple(written))


def detection_figure(
    arrays: DetectionArrays,
    cases: DetectionCases,
    images: Mapping[int, NDArray[np.uint8]],
    classes: Sequence[str],
    split: str,
    of: str,
    layout: KeypointLayout | None = None,
) -> RenderedFigure:
    """The chosen images, each twice: with its true boxes and points above, with the predicted ones below.

    Args:
        arrays: A trial's detections on one split.
        cases: The chosen images.
        images: Sample id -> image (height, width, channels), 0 to 255.
        classes: Names of the classes.
        split: Which split they are of.
        of: Which trial it is, for the title.
        layout: Which points objects have; None for none.
    """
    groups, layout = _groups(cases), layout if arrays.points is not None else None
    columns = max(len(rows) for _, rows, _ in groups)
    figure = new_figure(1.6 * columns + 0.9, 3.5 * len(groups) + 1.0)
    grid = figure.subplots(2 * len(groups), columns, squeeze=False)
    for number, (name, rows, words) in enumerate(groups):
        for part, kind in enumerate(("truth", "predicted")):
            line = grid[2 * number + part]
            for at, axes in enumerate(line):
                _empty(axes)
                if at < len(rows):
                    _draw(axes, images.get(int(arrays.ids[rows[at]])), arrays, rows[at], len(classes), kind)
                    if layout is not None:
                        _draw_points(axes, _points_of(arrays, rows[at], kind), layout, len(classes))
                    axes.set_xlabel(words[rows[at]] if part else "", fontsize=7.5, color=INK)
            line[0].set_ylabel(f"{name}\n{kind}" if part == 0 else kind, fontsize=8, color=INK)
    title = f"Best and worst detections of {of} on {split}"
    write_title(figure, title)
    _legend(figure, classes, layout.names if layout else ())
    numbers, caption = ", ".join(cases.words[1].values()), f"{CAPTION} {OF_POINTS}" if layout else CAPTION
    return render_figure(figure, "worst", title, caption, f"{title}: the lowest qualities are {numbers}.")


def _groups(cases: DetectionCases) -> list[tuple[str, tuple[int, ...], Mapping[int, str]]]:
    names, rows = ("best", "worst", "surest mistakes"), (cases.best, cases.worst, cases.surest_mistakes)
    return [group for group in zip(names, rows, cases.words, strict=True) if group[1]]


def _empty(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw(
    axes: Axes, image: NDArray[np.uint8] | None, arrays: DetectionArrays, row: int, classes: int, kind: str
) -> None:
    if image is not None:
        axes.imshow(image if image.shape[2] == 3 else image.mean(2), cmap="gray", vmin=0, vmax=255)
    colours = palette(classes + 1)[1:] / 255
    if kind == "truth":
        there = arrays.true_labels[row] != -1
        codes, boxes = arrays.true_labels[row][there], arrays.true_boxes[row][there]
        styles = ["--" if ignored else "-" for ignored in is_ignored(codes)]
        numbers = classes_of(codes)
    else:
        chosen = (arrays.labels[row] >= 0) & (arrays.scores[row] >= SURE)
        numbers, boxes, styles = arrays.labels[row][chosen], arrays.boxes[row][chosen], ["-"] * int(chosen.sum())
    for number, (x0, y0, x1, y1), style in zip(numbers.tolist(), boxes.tolist(), styles, strict=True):
        colour = tuple(colours[number % max(classes, 1)])
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=colour, lw=1.1, ls=style))


def _points_of(arrays: DetectionArrays, row: int, kind: str) -> NDArray[np.floating[Any]]:
    """(m, p, 3) of the objects of an image, or of the predictions that are drawn."""
    if kind == "truth":
        points, chosen = arrays.true_points, arrays.true_labels[row] != -1
    else:
        points, chosen = arrays.points, (arrays.labels[row] >= 0) & (arrays.scores[row] >= SURE)
    return np.zeros((0, 1, 3)) if points is None else points[row][chosen]


def _draw_points(axes: Axes, points: NDArray[np.floating[Any]], layout: KeypointLayout, classes: int) -> None:
    """Each point in a colour of its own, hollow where it is hidden, and lines between those that are joined."""
    colours = np.asarray(point_colours(len(layout.names), classes)) / 255
    for known in points:
        for first, second in layout.skeleton:
            if known[first, 2] and known[second, 2]:
                ends = known[[first, second], :2] - 0.5
                axes.plot(*ends.T, color=tuple(colours[first]), lw=0.5, scalex=False, scaley=False)
        for (x, y, visibility), colour in zip(known.tolist(), colours, strict=True):
            if visibility:
                inside = "none" if visibility == HIDDEN else tuple(colour)
                marks: dict[str, Any] = {
                    "ls": "",
                    "marker": "o",
                    "ms": 2.6,
                    "mew": 0.6,
                    "mec": tuple(colour),
                    "mfc": inside,
                }
                axes.plot([x - 0.5], [y - 0.5], scalex=False, scaley=False, **marks)


def _legend(figure: Figure, classes: Sequence[str], points: Sequence[str]) -> None:
    colours = palette(len(classes) + 1)[1:] / 255
    shown = list(zip(classes, colours, strict=True))[:_MOST_NAMED]
    handles: list[Artist] = [
        Patch(color=tuple(colour), label=escape_mathtext(truncated(name, 16))) for name, colour in shown
    ]
    dots = list(zip(points, np.asarray(point_colours(len(points), len(classes))) / 255, strict=True))[
        : _MOST_NAMED - len(shown)
    ]
    for name, colour in dots:
        label = escape_mathtext(truncated(name, 16))
        handles.append(Line2D([], [], ls="", marker="o", ms=4, color=tuple(colour), label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=7.5, frameon=False)
