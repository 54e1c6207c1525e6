"""Single images of a segmentation: those that a network outlines best and worst, with its masks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from expflow.training.evaluation.evaluator import Evaluator, Weights
from expflow.training.evaluation.network_inspection import as_picture
from expflow.training.evaluation.overlaps import MaskOverlaps, overlap_metric


@dataclass(frozen=True)
class MaskCase:
    """One image with its masks.

    Attributes:
        sample: Its position in the split.
        iou: Mean IoU over the classes that are in it or predicted in it.
        image: (height, width, channels) as the network is shown it.
        true: (height, width) true classes, and void.
        predicted: (height, width) predicted classes.
    """

    sample: int
    iou: float
    image: NDArray[np.uint8]
    true: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


def ranked_images(overlaps: MaskOverlaps) -> list[tuple[int, float]]:
    """(position in the split, mean IoU) of each image, the best first; ties in the split's order.

    Args:
        overlaps: Those of one split.
    """
    values = overlap_metric(overlaps.counts, "miou")
    ious = np.zeros(0) if values is None else values
    return [(int(overlaps.ids[row]), float(ious[row])) for row in np.argsort(-ious, kind="stable")]


def mask_cases(evaluator: Evaluator, weights: Weights, split: str, ious: dict[int, float]) -> dict[int, MaskCase]:
    """Images with what a network predicts for them, by their position in the split.

    Args:
        evaluator: Holds network and data.
        weights: The trained weights.
        split: Name of the split.
        ious: Which images, with the IoU of each.
    """
    evaluator.task.load_state_dict(weights)
    evaluator.task.eval()
    cases: dict[int, MaskCase] = {}
    for batch in evaluator.batches(split) if ious else ():
        rows = _rows(batch["index"].tolist(), ious.keys() - cases.keys())
        if not rows:
            continue
        part = {name: values[list(rows.values())] for name, values in batch.items()}
        with torch.no_grad():
            predicted = evaluator.task.predicted(part)  # type: ignore[operator]  # of the task segmentation
        for place, (sample, row) in enumerate(rows.items()):
            image, true = as_picture(batch["image"][row]), batch["mask"][row].numpy()
            cases[sample] = MaskCase(sample, ious[sample], image, true, predicted[place].to(torch.uint8).numpy())
        if len(cases) == len(ious):
            break
    return cases


def _rows(samples: list[int], wanted: Collection[int]) -> dict[int, int]:
    return {sample: row for row, sample in reversed(list(enumerate(samples))) if sample in wanted}
