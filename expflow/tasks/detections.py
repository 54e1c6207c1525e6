"""What a detector found in each image of a split beside what is there, as arrays; and the measures of single images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.kinds.boxes import classes_of, is_crowd, is_ignored

SURE = 0.5
"""Predictions with a smaller score are not drawn, and do not count where single images are ranked."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DetectionArrays:
    """Predictions and truth of a split, image by image; rows that hold nothing have the label -1.

    Attributes:
        ids: (n,) each image's position in its split, ascending.
        boxes: (n, d, 4) predicted boxes in pixels of the image that the network saw, the surest first.
        scores: (n, d) how sure of each one it is.
        labels: (n, d) predicted classes.
        true_boxes: (n, k, 4).
        true_labels: (n, k) as in batches: classes, and numbers below -1 for regions that count for nothing.
        true_areas: (n, k) in pixels of the original image.
        scales: (n,) pixels of the original image that a pixel of this one is wide.
        mask_ious: (n, d, k) overlaps of predicted with true masks; None where boxes alone are predicted.
        mask_areas: (n, d) pixels of each predicted mask; None likewise.
        points: (n, d, p, 3) x, y and 2 (seen) of the predicted points; None where none are predicted.
        true_points: (n, k, p, 3) x, y and visibility; None likewise.
        point_similarities: (n, d, k) COCO's object keypoint similarity; None likewise.
    """

    ids: NDArray[np.int64]
    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]
    true_boxes: Floats
    true_labels: NDArray[np.int64]
    true_areas: Floats
    scales: Floats
    mask_ious: Floats | None = None
    mask_areas: Floats | None = None
    points: Floats | None = None
    true_points: Floats | None = None
    point_similarities: Floats | None = None

    def __len__(self) -> int:
        return len(self.ids)


def join_detections(parts: Iterable[Mapping[str, NDArray[Any]]]) -> DetectionArrays | None:
    """Return what all ranks have, each image once, in the order of the split; None where a rank has none.

    Args:
        parts: of each rank the arrays of :class:`DetectionArrays` by name, and ``valid`` (n,), false for padding.
    """
    ranks = list(parts)
    if not ranks or not all(ranks):
        return None
    joined = {name: np.concatenate([part[name] for part in ranks]) for name in ranks[0]}
    rows = np.flatnonzero(joined["valid"])
    _, first = np.unique(joined["ids"][rows], return_index=True)
    names = [field.name for field in fields(DetectionArrays) if field.name in joined]
    return DetectionArrays(**{name: joined[name][rows[first]] for name in names})


def box_ious(boxes: Floats, truths: Floats, crowds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the overlap of each box with each true one, (d, k): intersection over union, over the box at a crowd.

    Args:
        boxes: (d, 4).
        truths: (k, 4).
        crowds: (k,) which of the true ones are crowds.

    Source:
        Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; its evaluation code, for crowds.
    """
    own, others = boxes.astype(np.float64)[:, None], truths.astype(np.float64)[None]
    sides = (np.minimum(own[..., 2:], others[..., 2:]) - np.maximum(own[..., :2], others[..., :2])).clip(0)
    shared = sides[..., 0] * sides[..., 1]
    areas, true_areas = (np.prod(corners[..., 2:] - corners[..., :2], axis=-1) for corners in (own, others))
    union = np.where(crowds[None], areas, areas + true_areas - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass(frozen=True)
class ImageQuality:
    """How well the objects of one image were found.

    Attributes:
        quality: overlaps of those that were found, summed, over (found + half of wrong and of missed ones); nan where
            there is nothing and nothing was predicted.
        surest_wrong: the highest score of a prediction that overlaps no object of its class by half; 0 without one.
    """

    quality: float
    surest_wrong: float


def image_quality(arrays: DetectionArrays, row: int, sure: float = SURE) -> ImageQuality:
    """Return how well the objects of one image were found, at an overlap of a half.

    Args:
        arrays: of a split.
        row: which image.
        sure: the smallest score of predictions that count.

    Source:
        Kirillov et al. 2019, "Panoptic Segmentation", equation 1, with boxes in the place of segments.
    """
    there = arrays.true_labels[row] != -1
    codes, chosen = arrays.true_labels[row][there], (arrays.labels[row] >= 0) & (arrays.scores[row] >= sure)
    overlaps = box_ious(arrays.boxes[row][chosen], arrays.true_boxes[row][there], is_crowd(codes))
    overlaps = np.where(arrays.labels[row][chosen][:, None] == classes_of(codes)[None], overlaps, 0)
    free, shared, hits, wrong = ~is_ignored(codes), 0.0, 0, list[float]()
    for overlap, score in zip(overlaps, arrays.scores[row][chosen].tolist(), strict=True):
        open_ones = np.where(free, overlap, 0)
        best = int(open_ones.argmax()) if len(open_ones) else 0
        if len(open_ones) and open_ones[best] >= 0.5:
            free[best], shared, hits = False, shared + float(open_ones[best]), hits + 1
        elif not (is_ignored(codes) & (overlap >= 0.5)).any():
            wrong.append(score)
    counted = hits + (len(wrong) + int(free.sum())) / 2
    return ImageQuality(shared / counted if counted else float("nan"), max(wrong, default=0.0))
