"""What a trial keeps of its detections on a split: for pictures, tables and intervals, without its network."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from expflow.errors import PredictionsDamaged
from expflow.tasks.average_precision import MOST_DETECTIONS, MOST_POSES, Overlap, class_precisions
from expflow.tasks.detections import DetectionArrays
from expflow.training.artifacts import ArtifactWriter
from expflow.training.evaluation.sealed_arrays import read_arrays, write_arrays

FORMAT = 1

_OPTIONAL = ("mask_ious", "mask_areas", "points", "true_points", "point_similarities")


def detections_file(split: str) -> str:
    """Name of the file, in a trial's folder, with its detections on one split.

    Args:
        split: Name of the split.
    """
    return f"detections-{split}.npz"


def save_detections(arrays: DetectionArrays, split: str, path: Path) -> str:
    """Write detections to a file, whole or not at all.

    Args:
        arrays: Those of one split.
        split: Its name.
        path: The file.

    Returns:
        The file's sha256.

    Raises:
        StorageUnwritable: The file cannot be written.
    """
    stored = {name: values for name, values in vars(arrays).items() if values is not None}
    return write_arrays(path, {"format": FORMAT, "split": split}, stored)


def load_detections(path: Path) -> DetectionArrays:
    """The detections in a file, compared with their checksum.

    Args:
        path: The file.

    Raises:
        PredictionsDamaged: It is missing, holds no detections, or is not what was written.
    """
    _, stored = read_arrays(path, FORMAT)
    try:
        names = [field.name for field in fields(DetectionArrays)]
        stored |= {name: stored[name].astype(np.int64) for name in ("ids", "labels", "true_labels")}
        arrays = DetectionArrays(**{name: stored[name] for name in names if name in stored or name not in _OPTIONAL})
        n, most = arrays.scores.shape
        if arrays.boxes.shape != (n, most, 4) or arrays.labels.shape != (n, most) or len(arrays.ids) != n:
            raise ValueError("its arrays do not fit together")
        if arrays.true_boxes.shape != (*arrays.true_labels.shape, 4) or len(arrays.true_labels) != n:
            raise ValueError("its arrays do not fit together")
        if arrays.points is not None and arrays.points.shape[:2] != (n, most):
            raise ValueError("its arrays do not fit together")
        return arrays
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionsDamaged(f"{path} holds no detections: {error}") from error


def write_ap_table(
    arrays: DetectionArrays, names: Sequence[str], split: str, artifacts: ArtifactWriter, step: int
) -> None:
    """Write the table ``ap-SPLIT``: of each class its AP, AP50 and AP75, that of masks and of keypoints where there are
    any, and its objects and predictions.

    Args:
        arrays: Predictions and truth of a split.
        names: Names of the classes, in their order.
        split: Its name.
        artifacts: What the table is written by.
        step: The optimizer step of the weights that predicted.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    further: dict[str, Overlap] = {"mask ap": "mask"} if arrays.mask_ious is not None else {}
    further |= {"keypoint ap": "keypoint"} if arrays.points is not None else {}
    table.writerow(["class", "ap", "ap50", "ap75", *further, "objects", "predictions"])
    of_boxes = class_precisions(arrays, MOST_DETECTIONS)
    others = [
        class_precisions(arrays, MOST_POSES if by == "keypoint" else MOST_DETECTIONS, by=by) for by in further.values()
    ]
    for number, name in enumerate(names):
        objects, predictions = ((labels == number).sum() for labels in (arrays.true_labels, arrays.labels))
        values = of_boxes.get(number)
        shown = ["", "", ""] if values is None else [f"{v:.6f}" for v in (values.mean(), values[0], values[5])]
        shown += [f"{np.mean(known[number]):.6f}" if number in known else "" for known in others]
        table.writerow([name, *shown, objects, predictions])
    artifacts.write_table(f"ap-{split}", text.getvalue(), step)
