"""How the areas that a network predicts overlap with the true ones, image by image: what mIoU and its interval need."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.errors import PredictionsDamaged
from expflow.training.artifacts import ArtifactWriter
from expflow.training.evaluation.sealed_arrays import read_arrays, write_arrays

FORMAT = 1


def overlaps_file(split: str) -> str:
    """Name of the file, in a trial's folder, with its overlaps on one split.

    Args:
        split: Name of the split.
    """
    return f"overlaps-{split}.npz"


@dataclass(frozen=True)
class MaskOverlaps:
    """Overlaps on one split, in the order of their ids, each image once.

    Attributes:
        split: Name of the split.
        ids: (n,) each image's position in its split.
        counts: (n, 3, classes) pixels that are truly and predicted of a class, truly, and predicted.
    """

    split: str
    ids: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def class_ious(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(…, 3, classes) counts -> (…, classes) intersection over union; nan where a class is neither there nor predicted.

    Args:
        counts: Sums of overlaps over the images that count.
    """
    both, true, predicted = (np.asarray(counts[..., kind, :], dtype=np.float64) for kind in range(3))
    union = true + predicted - both
    return np.divide(both, union, out=np.full(union.shape, np.nan), where=union > 0)


def overlap_metric(counts: NDArray[Any], name: str) -> NDArray[np.float64] | None:
    """``miou`` or ``pixel_accuracy`` of (…, 3, classes) counts; None for a metric that they do not hold.

    Args:
        counts: Sums of overlaps over the images that count.
        name: The metric without its split.
    """
    if name == "miou":
        ious = class_ious(counts)
        there = ~np.isnan(ious)
        shares: NDArray[np.float64] = np.where(there, ious, 0).sum(-1) / np.maximum(there.sum(-1), 1)
        return shares
    if name == "pixel_accuracy":
        return np.asarray(counts[..., 0, :].sum(-1) / np.maximum(counts[..., 1, :].sum(-1), 1), dtype=np.float64)
    return None


def join_overlaps(split: str, parts: Iterable[dict[str, NDArray[Any]]]) -> MaskOverlaps | None:
    """The overlaps of all ranks together, each image once; None where a rank has none.

    Args:
        split: Name of the split.
        parts: Of each rank ``ids`` (n,), ``counts`` (n, 3, classes) and ``valid`` (n,), which is false for padding.
    """
    ranks = list(parts)
    if not ranks or not all(ranks):
        return None
    joined = {name: np.concatenate([part[name] for part in ranks]) for name in ("ids", "counts", "valid")}
    ids, first = np.unique(joined["ids"][joined["valid"]], return_index=True)
    return MaskOverlaps(split, ids.astype(np.int64), joined["counts"][joined["valid"]][first].astype(np.int64))


def save_overlaps(overlaps: MaskOverlaps, path: Path) -> str:
    """Write overlaps to a file, whole or not at all.

    Args:
        overlaps: Those of one split.
        path: The file.

    Returns:
        The file's sha256.

    Raises:
        StorageUnwritable: The file cannot be written.
    """
    about = {"format": FORMAT, "split": overlaps.split}
    return write_arrays(path, about, {"ids": overlaps.ids, "counts": overlaps.counts})


def load_overlaps(path: Path) -> MaskOverlaps:
    """The overlaps in a file, compared with their checksum.

    Args:
        path: The file.

    Raises:
        PredictionsDamaged: It is missing, holds no overlaps, or is not what was written.
    """
    about, stored = read_arrays(path, FORMAT)
    try:
        ids, counts = stored["ids"].astype(np.int64), stored["counts"].astype(np.int64)
        if ids.ndim != 1 or counts.ndim != 3 or counts.shape[:2] != (len(ids), 3):
            raise ValueError("its arrays do not fit together")
        return MaskOverlaps(str(about["split"]), ids, counts)
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionsDamaged(f"{path} holds no overlaps of masks: {error}") from error


def write_iou_table(overlaps: MaskOverlaps, names: Sequence[str], artifacts: ArtifactWriter, step: int) -> None:
    """Write the table ``iou-SPLIT``: of each class its IoU, and its true and predicted pixels.

    Args:
        overlaps: Those of one split.
        names: Names of the classes, in their order.
        artifacts: What the table is written by.
        step: The optimizer step of the weights that predicted.
    """
    counts = overlaps.counts.sum(axis=0)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", "iou", "true pixels", "predicted pixels"])
    for name, iou, true, predicted in zip(names, class_ious(counts).tolist(), *counts[1:].tolist(), strict=True):
        table.writerow([name, "" if np.isnan(iou) else f"{iou:.6f}", true, predicted])
    artifacts.write_table(f"iou-{overlaps.split}", text.getvalue(), step)
