"""What the kept predictions say, image by image: intervals over images, and two configs on the same images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from expflow.errors import PredictionsDamaged
from expflow.ledger.state import SweepState, TrialState
from expflow.report import results, words
from expflow.report.contrasts import Answer, sides
from expflow.report.resampling import ImageInterval, McNemar, bootstrap, mcnemar, mean_hits
from expflow.report.results import Config
from expflow.sweep.testing import predictions_path
from expflow.training.protocol.predictions import Predictions, read

_SHOWN_SEEDS = 3
"""Seeds whose test is spelled out; of more than these the range of p is said."""


def predictions_of(folder: Path, state: SweepState, name: str, split: str, sha256: str = "") -> Predictions | None:
    """The kept predictions on ``split`` of a trial or of what was combined; None where there are none that read.

    With ``sha256``, None also where the file is another one: of a later look, or of more epochs.
    """
    path = predictions_path(folder, state, name, split)
    try:
        if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            return None
        return read(path)
    except (OSError, PredictionsDamaged):  # a report must not fail for what it can do without
        return None


def image_interval(every: Sequence[Predictions | None], metric: str) -> ImageInterval | None:
    """The mean of ``metric`` (``val/top1``) and its interval over the images that all of ``every`` saw.

    None where predictions are missing, are of different images, or do not hold this metric for each image.
    """
    known = [each for each in every if each is not None]
    if not known or len(known) < len(every) or any(not _same_images(known[0], each) for each in known[1:]):
        return None
    kind = metric.rpartition("/")[2]
    if kind == "loss":
        values = [each.losses.astype(float) for each in known]
    elif kind.startswith("top") and kind[3:].isdigit() and int(kind[3:]) <= known[0].top.shape[1]:
        return bootstrap(mean_hits([each.hits_among(int(kind[3:])) for each in known]))
    else:
        return None
    try:
        return bootstrap(sum(values) / len(values))
    except ValueError:  # a loss without a value for each sample
        return None


def _same_images(one: Predictions, other: Predictions) -> bool:
    return bool(np.array_equal(one.ids, other.ids) and np.array_equal(one.labels, other.labels))


def trials_interval(folder: Path, state: SweepState, trials: Sequence[TrialState], metric: str) -> ImageInterval | None:
    """:func:`image_interval` of finished trials on the split that ``metric`` names."""
    split = metric.partition("/")[0]
    return image_interval([predictions_of(folder, state, each.trial, split) for each in trials], metric)


def interval_words(metric: str, found: ImageInterval | None) -> str:
    """``[97.10, 99.31]``; "" where there is none."""
    if found is None or found.low is None or found.high is None:
        return ""
    low, high = (words.metric_value(metric, each, unit=False) for each in (found.low, found.high))
    return f"[{low}, {high}]"


def with_images(found: Sequence[Answer], state: SweepState, folder: Path) -> list[Answer]:
    """``found``, the answers of the declared contrasts, with McNemar's test where a contrast is of two configs."""
    contrasts = results.header_of(state).report.get("contrasts", ())
    return [
        replace(answer, notes=(*answer.notes, *_notes(contrast, state, folder)))
        for answer, contrast in zip(found, contrasts, strict=True)
    ]


def mcnemar_on(split: str, state: SweepState, folder: Path) -> list[str]:
    """What McNemar's test says of the declared contrasts on ``split``: a sentence for each with predictions there."""
    contrasts = results.header_of(state).report.get("contrasts", ())
    return [each for contrast in contrasts for each in _notes(contrast, state, folder, (split,))]


def _notes(contrast: Mapping[str, Any], state: SweepState, folder: Path, splits: Sequence[str] = ()) -> list[str]:
    pairs = sides(contrast, state) if contrast["metric"].endswith("/top1") else []
    if len(pairs) != 1:
        return []
    splits = splits or tuple(dict.fromkeys((contrast["metric"].partition("/")[0], "test")))
    names = (words.config_label(contrast["of"]), words.config_label(contrast["against"]))
    said = [_sentence(split, by_image(folder, state, *pairs[0], split), names) for split in splits]
    return [each for each in said if each]


def by_image(folder: Path, state: SweepState, of: Config, against: Config, split: str) -> dict[int, McNemar]:
    """McNemar's test of two configs on ``split`` for each seed that both have predictions of."""
    found: dict[int, McNemar] = {}
    other = {trial.seed: trial for trial in against.trials if trial.status == "done"}
    for trial in of.trials:
        if trial.status != "done" or trial.seed not in other:
            continue
        left, right = (predictions_of(folder, state, each.trial, split) for each in (trial, other[trial.seed]))
        if left is not None and right is not None and _same_images(left, right):
            found[trial.seed] = mcnemar(left.hits, right.hits)
    return found


def _sentence(split: str, tests: Mapping[int, McNemar], names: tuple[str, str]) -> str:
    """What the tests of all seeds say, network by network; ``names`` are those of the two sides."""
    if not tests:
        return ""
    n = next(iter(tests.values())).n
    shown = [
        f"seed {seed}: only {names[0]} gets {each.only_first} right, only {names[1]} {each.only_second}, "
        f"p {words.p_value(each.p)}"
        for seed, each in list(tests.items())[:_SHOWN_SEEDS]
    ]
    if len(tests) > _SHOWN_SEEDS:
        every = [each.p for each in tests.values()]
        shown.append(f"over all {len(tests)} seeds p from {min(every):.2g} to {max(every):.2g}")
    return (
        f"Image by image on {split} (McNemar's exact test of two networks on the same {n:,} images, which is about "
        f"other images and not about other seeds; not corrected): {'; '.join(shown)}."
    )
