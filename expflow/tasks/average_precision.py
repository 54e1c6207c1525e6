"""COCO's average precision and recall of detections, computed once over a split.

Predictions are matched with the truth of their image and class, the surest first; whether each is right, wrong or of no
account at each overlap is kept with its image, so that images can be drawn anew for an interval.

Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context", and its evaluation code, whose numbers these are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from expflow.data.kinds.boxes import classes_of, is_crowd, is_ignored
from expflow.tasks.detections import DetectionArrays, box_ious

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Least overlaps at which a prediction is right; AP is the mean over them."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where precision is read off."""

COCO_AREAS = (32.0**2, 96.0**2)
"""Borders between small, medium and large objects, in pixels."""

MOST_DETECTIONS = 100
"""Predictions of an image and class that count, the surest ones."""

MOST_POSES = 20
"""The same where points are measured, as COCO has it."""

Overlap = Literal["box", "mask", "keypoint"]
"""What tells how well a prediction fits an object: the overlap of boxes or of masks, or the similarity of points."""

_NARROW = (1, 10)
"""Smaller numbers of predictions, at which recall is reported as well."""

SIZES = ("small", "medium", "large")
EVERY_SIZE = (0.0, np.inf)


@dataclass(frozen=True)
class ClassMatches:
    """Predictions of one class over a split, the surest first, for objects of one range of sizes.

    Attributes:
        images: (m,) row of the image of each prediction.
        places: (m,) how many surer ones of its class its image has.
        right: (10, m) whether it is right at each of :data:`OVERLAPS`.
        counted: (10, m) whether it counts.
        truths: (n,) objects of each image.
    """

    images: NDArray[np.int64]
    places: NDArray[np.int64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    truths: NDArray[np.int64]


def match_classes(
    arrays: DetectionArrays,
    ranges: Sequence[tuple[float, float]],
    most: int = MOST_DETECTIONS,
    *,
    by: Overlap = "box",
) -> list[dict[int, ClassMatches]]:
    """Match predictions with truth.

    Args:
        arrays: predictions and truth of a split.
        ranges: smallest and largest area of the objects that count, in pixels of the original image, for each result.
        most: predictions of an image and class that count.
        by: what is compared.

    Returns:
        For each range, class to its matches; classes that are neither there nor predicted are left out.
    """
    gathered: list[dict[int, list[tuple[NDArray[Any], ...]]]] = [{} for _ in ranges]
    for row in range(len(arrays)):
        predicted, there = np.flatnonzero(arrays.labels[row] >= 0), np.flatnonzero(arrays.true_labels[row] != -1)
        codes = arrays.true_labels[row][there]
        numbers, guesses = classes_of(codes), arrays.labels[row][predicted]
        for number in np.unique(np.concatenate([numbers, guesses])).tolist():
            mine, true = predicted[guesses == number], there[numbers == number]
            order = np.argsort(-arrays.scores[row][mine], kind="stable")[:most]
            for of_range, limits in zip(gathered, ranges, strict=True):
                of_range.setdefault(number, []).append(_matched(arrays, row, mine[order], true, limits, by))
    return [{number: _joined(parts, len(arrays)) for number, parts in of_range.items()} for of_range in gathered]


def _matched(
    arrays: DetectionArrays,
    row: int,
    mine: NDArray[np.int64],
    true: NDArray[np.int64],
    limits: tuple[float, float],
    by: Overlap,
) -> tuple[NDArray[Any], ...]:
    """Of one image and class: row, scores (m,), right (10, m), counted (10, m), and the number of objects."""
    codes, areas = arrays.true_labels[row][true], arrays.true_areas[row][true]
    ignored = is_ignored(codes) | (areas < limits[0]) | (areas > limits[1])
    if by == "keypoint" and arrays.true_points is not None:  # an object without a known point counts for nothing
        ignored = ignored | ~(arrays.true_points[row][true][..., 2] > 0).any(-1)
    order = np.argsort(ignored, kind="stable")
    true, codes, ignored = true[order], codes[order], ignored[order]
    overlaps, sizes = _overlaps(arrays, row, mine, true, by)
    hits, of_ignored = match_image(overlaps, ignored, is_crowd(codes))
    sizes = sizes * float(arrays.scales[row]) ** 2
    outside = (sizes < limits[0]) | (sizes > limits[1])
    counted = ~of_ignored & ~(~hits & outside[None])
    rows = np.full(len(mine), row)
    return rows, arrays.scores[row][mine], hits & ~of_ignored, counted, np.asarray([row, int((~ignored).sum())])


def _overlaps(
    arrays: DetectionArrays, row: int, mine: NDArray[np.int64], true: NDArray[np.int64], by: Overlap
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How well predictions fit objects (m, k), and the predictions' areas (m,): of points that of their extent."""
    if by == "mask" and arrays.mask_ious is not None and arrays.mask_areas is not None:
        overlaps, sizes = arrays.mask_ious[row][np.ix_(mine, true)], arrays.mask_areas[row][mine]
        return overlaps.astype(np.float64), sizes.astype(np.float64)
    if by == "keypoint" and arrays.points is not None and arrays.point_similarities is not None:
        extents = np.ptp(arrays.points[row][mine][..., :2].astype(np.float64), axis=1)
        return arrays.point_similarities[row][np.ix_(mine, true)].astype(np.float64), extents.prod(-1)
    boxes = arrays.boxes[row][mine].astype(np.float64)
    overlaps = box_ious(boxes, arrays.true_boxes[row][true], is_crowd(arrays.true_labels[row][true]))
    return overlaps, (boxes[:, 2:] - boxes[:, :2]).prod(-1)


def match_image(
    overlaps: NDArray[np.float64], ignored: NDArray[np.bool_], crowds: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match the predictions of one image and class, the surest first, each with the free object that it overlaps most.

    An object that counts is preferred to one that does not, and a crowd can be matched any number of times.

    Args:
        overlaps: (m, k) of each prediction with each object.
        ignored: (k,) which objects count for nothing; they stand behind the others.
        crowds: (k,) which are crowds.

    Returns:
        Whether each prediction is matched at each of :data:`OVERLAPS`, and whether with an object that counts for
        nothing, (10, m) both.
    """
    m, k = overlaps.shape
    hits, of_ignored = np.zeros((len(OVERLAPS), m), bool), np.zeros((len(OVERLAPS), m), bool)
    taken, levels = np.zeros((len(OVERLAPS), k), bool), np.minimum(OVERLAPS, 1 - 1e-10)[:, None]
    for place in np.flatnonzero(overlaps.max(1, initial=0) >= levels[0, 0]) if k else ():
        possible = (~taken | crowds) & (overlaps[place] >= levels)
        preferred = possible & ~ignored
        chosen = np.where(preferred.any(1, keepdims=True), preferred, possible)
        best = k - 1 - np.where(chosen, overlaps[place], -1)[:, ::-1].argmax(1)  # the last of equal ones, as COCO does
        matched = chosen.any(1)
        hits[matched, place], of_ignored[matched, place] = True, ignored[best[matched]]
        taken[matched, best[matched]] = True
    return hits, of_ignored


def _joined(parts: Sequence[tuple[NDArray[Any], ...]], images: int) -> ClassMatches:
    rows, scores = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    right, counted = (np.concatenate([part[column] for part in parts], axis=1) for column in (2, 3))
    places, truths = np.concatenate([np.arange(len(part[0])) for part in parts]), np.zeros(images, np.int64)
    for part in parts:
        truths[part[4][0]] = part[4][1]
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(rows[order], places[order], right[:, order], counted[:, order], truths)


def average_precisions(matches: ClassMatches, drawn: NDArray[np.float64] | None = None) -> NDArray[np.float64] | None:
    """Return the precision over :data:`RECALLS`, averaged, at each of :data:`OVERLAPS`; None without an object.

    Args:
        matches: of one class.
        drawn: (n,) how often each image counts; None for once.
    """
    weights = np.ones(len(matches.truths)) if drawn is None else drawn
    truths = float(weights @ matches.truths)
    if truths == 0:
        return None
    of_images, averages = weights[matches.images], np.zeros(len(OVERLAPS))
    for level, (right, counted) in enumerate(zip(matches.right, matches.counted, strict=True)):
        where = np.flatnonzero(right)  # only there recall grows
        if not len(where):
            continue
        hits, all_ones = np.cumsum(of_images[where]), np.cumsum(of_images * counted)[where]
        precision = hits / np.maximum(all_ones, np.spacing(1.0))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(hits / truths, RECALLS, side="left")
        averages[level] = envelope[at[at < len(where)]].sum() / len(RECALLS)
    return averages


def average_recall(matches: ClassMatches, most: int) -> float | None:
    """Return the share of objects that are found, averaged over :data:`OVERLAPS`; None without an object.

    Args:
        matches: of one class.
        most: predictions of an image that count.
    """
    truths = int(matches.truths.sum())
    return float((matches.right & (matches.places < most)).sum(1).mean() / truths) if truths else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def precision_metrics(
    matches: Mapping[int, ClassMatches], drawn: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Return ``ap``, ``ap50`` and ``ap75``: means over the classes that have an object; empty where none has.

    Args:
        matches: class to its matches.
        drawn: as in :func:`average_precisions`.
    """
    averages = [values for matched in matches.values() if (values := average_precisions(matched, drawn)) is not None]
    if not averages:
        return {}
    by_level = np.mean(averages, axis=0)
    return {"ap": float(by_level.mean()), "ap50": float(by_level[0]), "ap75": float(by_level[5])}


def size_ranges(borders: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the ranges of :data:`SIZES`, borders included on both sides, as COCO has them.

    Args:
        borders: areas between small and medium, and between medium and large, in pixels.
    """
    return [(0.0, borders[0]), (borders[0], borders[1]), (borders[1], np.inf)]


def detection_metrics(
    arrays: DetectionArrays,
    borders: tuple[float, float] = COCO_AREAS,
    most: int = MOST_DETECTIONS,
    *,
    by: Overlap = "box",
) -> dict[str, float]:
    """Return all metrics of a split; what has no object to be measured on is left out.

    Args:
        arrays: predictions and truth.
        borders: areas between small, medium and large objects, in pixels of the original image.
        most: predictions of an image and class that count.
        by: what is measured.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large``, ``ar``, ``ar1`` and ``ar10``.
    """
    every, *sized = match_classes(arrays, [EVERY_SIZE, *size_ranges(borders)], most, by=by)
    metrics: dict[str, float | None] = dict(precision_metrics(every))
    for size, matches in zip(SIZES, sized, strict=True):
        metrics[f"ap_{size}"] = precision_metrics(matches).get("ap")
    metrics["ar"] = _mean([average_recall(matched, most) for matched in every.values()])
    for few in _NARROW:
        metrics[f"ar{few}"] = _mean([average_recall(matched, few) for matched in every.values()])
    return {name: value for name, value in metrics.items() if value is not None}


def keypoint_metrics(arrays: DetectionArrays, most: int = MOST_POSES) -> dict[str, float]:
    """Return ``ap``, ``ap50``, ``ap75`` and ``ar`` of points over a split; empty where no object has a known point.

    Args:
        arrays: predictions and truth.
        most: predictions of an image and class that count; never more than :data:`MOST_POSES`.
    """
    most = min(most, MOST_POSES)
    (matches,) = match_classes(arrays, [EVERY_SIZE], most, by="keypoint")
    recall = _mean([average_recall(matched, most) for matched in matches.values()])
    return precision_metrics(matches) | ({} if recall is None else {"ar": recall})


def class_precisions(arrays: DetectionArrays, most: int, *, by: Overlap = "box") -> dict[int, NDArray[np.float64]]:
    """Return for each class that has an object its average precision at each of :data:`OVERLAPS`.

    Args:
        arrays: predictions and truth.
        most: predictions of an image and class that count.
        by: what is measured.
    """
    (matches,) = match_classes(arrays, [EVERY_SIZE], most, by=by)
    known = {number: average_precisions(matched) for number, matched in sorted(matches.items())}
    return {number: values for number, values in known.items() if values is not None}
