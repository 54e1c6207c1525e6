"""Metrics: which direction is better, in which unit a value is, what it is a mean of, how it is labelled and
written.

A metric is reported as ``SPLIT/NAME`` (``val/top1``, ``fit/loss``) or ``cost/NAME`` (``cost/seconds``). The table below
holds what is known of each ``NAME``; every other module asks here. A metric that a user's own code logs may have any
name: then only its direction matters, and the experiment file says it (``mode: max``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from expflow.errors import UserError, nearest

Mode = Literal["max", "min"]
Unit = Literal["none", "share", "points", "seconds", "bytes"]
"""``share``: 0 to 1, written in percent. ``points``: percentage points, as a difference of shares is written.
``none``: a number without a unit."""

SPLITS = ("train", "fit", "val", "test")
"""What precedes the slash of a measured metric. ``fit`` is the training split, evaluated like ``val``."""

UNDECLARED_MAIN_METRIC = "val/top1"
"""What a sweep is judged by where neither the file nor the task names a metric."""

COST = "cost"
"""What precedes the slash of what a trial took: less is better, whatever follows."""


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Attributes:
        name: The name after the split: ``top1``.
        mode: Which direction is better.
        unit: What a value of 1 means.
        per_sample: Whether the value over a split is the mean of one value for each sample, so that an interval over
            samples can be had from the values per sample. False for ratios of sums (mIoU) and rankings (AP).
        label: The name in words, for axes and tables of papers.
    """

    name: str
    mode: Mode
    unit: Unit = "none"
    per_sample: bool = False
    label: str = ""


_TOP_K = re.compile(r"top[1-9]\d*")

_TABLE = (
    # classification
    Metric("top1", "max", "share", True, "top-1 accuracy"),
    Metric("top5", "max", "share", True, "top-5 accuracy"),
    Metric("loss", "min", per_sample=True, label="loss"),
    Metric("error", "min", label="error"),
    Metric("penalty", "min", label="penalty"),
    # names that users' own modules log; in which unit they are is theirs to know
    Metric("accuracy", "max", label="accuracy"),
    Metric("precision", "max", label="precision"),
    Metric("recall", "max", label="recall"),
    Metric("f1", "max", label="F1"),
    Metric("auc", "max", label="area under the curve"),
    Metric("auroc", "max", label="area under the ROC curve"),
    Metric("map", "max", "share", label="mean average precision"),
    # segmentation
    Metric("iou", "max", "share", label="intersection over union"),
    Metric("miou", "max", "share", label="mean intersection over union"),
    Metric("pixel_accuracy", "max", "share", label="pixel accuracy"),
    # detection, as COCO defines them
    Metric("ap", "max", "share", label="AP"),
    Metric("ap50", "max", "share", label="AP50"),
    Metric("ap75", "max", "share", label="AP75"),
    Metric("ap_small", "max", "share", label="AP of small objects"),
    Metric("ap_medium", "max", "share", label="AP of medium objects"),
    Metric("ap_large", "max", "share", label="AP of large objects"),
    Metric("ar", "max", "share", label="average recall"),
    Metric("ar1", "max", "share", label="average recall, one box an image"),
    Metric("ar10", "max", "share", label="average recall, ten boxes an image"),
    Metric("mask_ap", "max", "share", label="AP of masks"),
    Metric("mask_ap50", "max", "share", label="AP50 of masks"),
    Metric("mask_ap75", "max", "share", label="AP75 of masks"),
    Metric("keypoint_ap", "max", "share", label="AP of keypoints"),
    Metric("keypoint_ap50", "max", "share", label="AP50 of keypoints"),
    Metric("keypoint_ap75", "max", "share", label="AP75 of keypoints"),
    Metric("keypoint_ar", "max", "share", label="average recall of keypoints"),
    # regression
    Metric("rmse", "min", label="root mean squared error"),
    Metric("mae", "min", label="mean absolute error"),
    # sequences
    Metric("bleu", "max", label="BLEU"),
    Metric("sequence_accuracy", "max", "share", True, "sequence accuracy"),
    Metric("token_accuracy", "max", "share", label="token accuracy"),
    Metric("perplexity", "min", label="perplexity"),
    # retrieval
    Metric("r1", "max", "share", True, "recall at 1"),
    Metric("r5", "max", "share", True, "recall at 5"),
    Metric("r10", "max", "share", True, "recall at 10"),
    Metric("medr", "min", label="median rank"),
    Metric("text_r1", "max", "share", label="recall at 1, texts to images"),
    Metric("text_r5", "max", "share", label="recall at 5, texts to images"),
    Metric("text_r10", "max", "share", label="recall at 10, texts to images"),
    Metric("text_medr", "min", label="median rank, texts to images"),
    # reconstruction and generation
    Metric("psnr", "max", per_sample=True, label="PSNR (dB)"),
    Metric("psnr_gain", "max", label="gain in PSNR (dB)"),
    Metric("ssim", "max", per_sample=True, label="SSIM"),
    Metric("sharpness", "max", label="sharpness"),
    Metric("l1", "min", per_sample=True, label="L1 distance"),
    Metric("l2", "min", per_sample=True, label="L2 distance"),
    Metric("bits_per_dim", "min", per_sample=True, label="bits per dimension"),
    Metric("discriminator_loss", "min", label="loss of the discriminator"),
    Metric("generator_loss", "min", label="loss of the generator"),
    Metric("swd", "min", label="sliced Wasserstein distance"),
    Metric("condition_swd", "min", label="sliced Wasserstein distance of conditions"),
    Metric("fid", "min", label="FID"),
    Metric("kid", "min", label="kernel distance of features (KID)"),
    Metric("frechet_distance", "min", label="Fréchet distance of features"),
    Metric("content_loss", "min", label="distance from the content"),
    Metric("style_loss", "min", label="distance from the style"),
    Metric("activation", "max", label="activation of what is dreamt of"),
    # features
    Metric("probe_top1", "max", "share", label="linear probe's top-1 accuracy"),
    Metric("knn_top1", "max", "share", label="nearest neighbours' top-1 accuracy"),
    # one-shot architecture search
    Metric("discrete_top1", "max", "share", label="top-1 accuracy of the discrete child"),
    Metric("gap", "min", "share", label="what the discrete child lacks"),
    Metric("skips", "min", "share", label="edges that only pass on"),
    Metric("eigenvalue", "min", label="dominant eigenvalue"),
    Metric("entropy", "min", label="entropy of the mixtures"),
    # costs
    Metric("seconds", "min", "seconds", label="seconds"),
    Metric("peak_bytes", "min", "bytes", label="peak memory"),
    Metric("params", "min", label="parameters"),
    Metric("macs", "min", label="multiply-adds"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
"""Every metric that expflow knows, by the name after the split; ``topK`` stands for any K (:func:`metric_of`)."""

if len(METRICS) != len(_TABLE):
    raise ValueError("a metric is listed twice in expflow/metrics.py")


def metric_of(name: str) -> Metric | None:
    """What is known of the metric that is reported as ``name``.

    Args:
        name: A reported name with its split, such as ``val/top1`` or ``cost/seconds``.

    Returns:
        Its entry; None for a metric that only the user's code knows.
    """
    split, _, kind = name.rpartition("/")
    if split == COST:
        return METRICS.get(kind) or Metric(kind, "min", label=kind)
    if split not in SPLITS:
        return None
    if _TOP_K.fullmatch(kind) and kind not in METRICS:
        return replace(METRICS["top5"], name=kind, label=f"top-{kind[3:]} accuracy")
    return METRICS.get(kind)


def metric_mode(name: str, mode: Mode | None = None) -> Mode:
    """Which direction of a metric is better.

    Args:
        name: A reported name with its split.
        mode: What the experiment file says of it, which wins; None where it says nothing.

    Raises:
        UserError: The metric is unknown and the file does not say it.
    """
    if mode is not None:
        return mode
    metric = metric_of(name)
    if metric is not None:
        return metric.mode
    known = [f"{split}/{metric}" for split in ("fit", "val", "test") for metric in ("loss", "top1", "top5")]
    close = nearest(name, known) or nearest(name, [f"val/{metric}" for metric in METRICS])
    hint = f", or name a known metric; nearest: {close}" if close else ""
    raise UserError(f"whether more of {name!r} is better is not known; add `mode: max` or `mode: min`{hint}")


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """Names of metrics, the most similar one first.

    Args:
        name: What was written.
        known: The names that there are.
    """
    import difflib  # only needed once something is wrong

    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))


def unit_of(name: str) -> Unit:
    """The unit of the metric that is reported as ``name``; ``none`` for one that is not known.

    Args:
        name: A reported name, with its split or with a prefix that ends in ``_`` (``final/val_top1``).
    """
    metric = metric_of(name)
    if metric is None and _TOP_K.fullmatch(re.split(r"[/_]", name)[-1]):
        return "share"
    return metric.unit if metric is not None else "none"


def is_share(name: str) -> bool:
    """Whether the metric that is reported as ``name`` is a share, 0 to 1, that is written in percent.

    Args:
        name: A reported name with its split.
    """
    return unit_of(name) == "share"


def is_per_sample(name: str) -> bool:
    """Whether the metric that is reported as ``name`` is a mean of one value for each sample of the split.

    Args:
        name: A reported name with its split.
    """
    metric = metric_of(name)
    return metric is not None and metric.per_sample


def sample_step(name: str, samples: int | None) -> float | None:
    """By how much a share changes when one sample of its split is right instead of wrong: 1 / samples; None for metrics
    that are no shares of samples, such as mIoU and AP, and where ``samples`` is not known.

    Args:
        name: A reported name with its split.
        samples: How many samples the split has.
    """
    return 1 / samples if samples and is_share(name) and is_per_sample(name) else None


def top_k(name: str) -> int | None:
    """K of a top-K accuracy: 5 for ``val/top5``; None for any other metric.

    Args:
        name: A reported name with its split.
    """
    kind = name.rpartition("/")[2]
    return int(kind[3:]) if _TOP_K.fullmatch(kind) else None


def number(value: float) -> str:
    """A number with three significant digits: ``1.53``, ``0.0184``, ``0.00112``, ``12,400``.

    Args:
        value: Any number, also one that is not finite.
    """
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def metric_value(metric: str, value: float, *, unit: bool = True) -> str:
    """A value of a metric: ``98.74 %`` for shares, three significant digits otherwise.

    Args:
        metric: A reported name with its split.
        value: The value; a share from 0 to 1.
        unit: Whether the percent sign is written.
    """
    if not is_share(metric) or not math.isfinite(value):
        return number(value)
    return f"{100 * value:.2f}{' %' if unit else ''}"
