"""Statistics from the kept predictions: intervals over images, and two configs compared on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.ledger.state import SweepState, TrialState
from expflow.metrics import is_per_sample, is_share, metric_of, metric_value, top_k
from expflow.report import formatting, trial_results
from expflow.report.bootstrap import ImageInterval, bootstrap_mean
from expflow.report.contrast_answers import Answer
from expflow.report.contrast_terms import compare
from expflow.report.image_differences import values_per_image
from expflow.report.image_draws import drawn_interval, drawn_interval_over_both
from expflow.report.image_intervals import interval_over_both, share_over_images
from expflow.report.kept_draws import read_all_draws
from expflow.report.mcnemar import McNemarTest, mcnemar_test
from expflow.report.prediction_files import read_predictions, same_images
from expflow.report.trial_results import ConfigTrials
from expflow.training.evaluation.predictions import Predictions

_SHOWN_SEEDS = 3
"""Seeds whose test is spelled out; of more than these the range of p is given."""


def image_values(networks: Sequence[Predictions | None], metric: str) -> NDArray[np.float64] | None:
    """A metric's values image by image of several networks.

    Args:
        networks: Predictions of each network; None for one whose predictions are missing.
        metric: A metric with its split, such as ``val/top1``.

    Returns:
        (networks, images); None where predictions are missing, are of different images, or do not hold this metric for
        each image.
    """
    known = [predictions for predictions in networks if predictions is not None]
    if not is_per_sample(metric) or not known or len(known) < len(networks):
        return None
    if not all(same_images(known[0], other) for other in known[1:]):
        return None
    rows = [values_per_image(predictions, metric) for predictions in known]
    measured = [row for row in rows if row is not None]
    return np.stack(measured) if len(measured) == len(rows) else None


def image_interval(networks: Sequence[Predictions | None], metric: str) -> ImageInterval | None:
    """The mean of a metric over several networks, and its interval over the images that all of them saw.

    Args:
        networks: Predictions of each network; None for one whose predictions are missing.
        metric: A metric with its split, such as ``val/top1``.

    Returns:
        None where :func:`image_values` gives none.
    """
    values = image_values(networks, metric)
    if values is None:
        return None
    means = values.mean(axis=0)
    return share_over_images(means) if is_share(metric) else bootstrap_mean(means)


def both_interval(networks: Sequence[Predictions | None], metric: str) -> ImageInterval | None:
    """The mean of a metric over several networks, and its interval for other seeds and other images.

    Args:
        networks: Predictions of each network; None for one whose predictions are missing.
        metric: A metric with its split, such as ``val/top1``.

    Returns:
        None with fewer than two networks, and where :func:`image_values` gives none.
    """
    values = image_values(networks, metric)
    return interval_over_both(values, share=is_share(metric)) if values is not None and len(values) > 1 else None


def trials_interval(
    folder: Path, state: SweepState, trials: Sequence[TrialState], metric: str, *, both: bool = False
) -> ImageInterval | None:
    """:func:`image_interval` or :func:`both_interval` of finished trials on the split that the metric names.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trials: The trials whose mean it is.
        metric: A metric with its split.
        both: Whether the interval is for other seeds, too, and not for other images alone.
    """
    split = metric.partition("/")[0]
    if (known := metric_of(metric)) is not None and not known.per_sample:
        draws = read_all_draws(folder, state, trials, metric)
        if draws is None:
            return None
        return drawn_interval_over_both(draws, share=is_share(metric)) if both else drawn_interval(draws)
    networks = [read_predictions(folder, state, trial.trial, split) for trial in trials]
    return both_interval(networks, metric) if both else image_interval(networks, metric)


def interval_words(metric: str, interval: ImageInterval | None) -> str:
    """``[97.10, 99.31]``; an empty string where there is none.

    Args:
        metric: The metric that the interval is of.
        interval: The interval over images.
    """
    if interval is None or interval.low is None or interval.high is None:
        return ""
    low, high = (metric_value(metric, end, unit=False) for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def with_mcnemar_notes(answers: Sequence[Answer], state: SweepState, folder: Path) -> list[Answer]:
    """The answers, with McNemar's test among their notes where a contrast is of two configs.

    Args:
        answers: One for each declared contrast.
        state: What the ledger adds up to.
        folder: The results folder, which has the kept predictions.
    """
    contrasts = trial_results.header_of(state).report.get("contrasts", ())
    return [
        replace(answer, notes=(*answer.notes, *_notes(contrast, state, folder)))
        for answer, contrast in zip(answers, contrasts, strict=True)
    ]


def mcnemar_sentences(split: str, state: SweepState, folder: Path) -> list[str]:
    """The result of McNemar's test for each declared contrast with predictions on a split.

    Args:
        split: Which split's predictions are compared.
        state: What the ledger adds up to.
        folder: The results folder, which has the kept predictions.
    """
    contrasts = trial_results.header_of(state).report.get("contrasts", ())
    return [note for contrast in contrasts for note in _notes(contrast, state, folder, (split,))]


def _notes(contrast: Mapping[str, Any], state: SweepState, folder: Path, splits: Sequence[str] = ()) -> list[str]:
    if top_k(contrast["metric"]) != 1 or contrast.get("by") or contrast.get("tuned_over"):
        return []
    pairs = compare(contrast, trial_results.configs(state), trial_results.header_of(state)).pairs
    if len(pairs) != 1:
        return []
    ((of, against),) = pairs
    splits = splits or tuple(dict.fromkeys((contrast["metric"].partition("/")[0], "test")))
    names = (formatting.config_label(contrast["of"]), formatting.config_label(contrast["against"]))
    notes = [
        _sentence(split, mcnemar_by_seed(folder, state, of.candidates[0], against.candidates[0], split), names)
        for split in splits
    ]
    return [note for note in notes if note]


def mcnemar_by_seed(
    folder: Path, state: SweepState, of: ConfigTrials, against: ConfigTrials, split: str
) -> dict[int, McNemarTest]:
    """McNemar's test of two configs for each seed that both have predictions of.

    Args:
        folder: The results folder, which has the kept predictions.
        state: What the ledger adds up to.
        of: The one config.
        against: The other one.
        split: Which split's predictions are compared.

    Returns:
        Seed -> test.
    """
    tests: dict[int, McNemarTest] = {}
    others = {trial.seed: trial for trial in against.trials if trial.status == "done"}
    for trial in of.trials:
        if trial.status != "done" or trial.seed not in others:
            continue
        pair = (trial, others[trial.seed])
        left, right = (read_predictions(folder, state, member.trial, split) for member in pair)
        if left is not None and right is not None and same_images(left, right):
            tests[trial.seed] = mcnemar_test(left.hits, right.hits)
    return tests


def _sentence(split: str, tests: Mapping[int, McNemarTest], names: tuple[str, str]) -> str:
    """The tests of all seeds in words, network by network; ``names`` are those of the two sides."""
    if not tests:
        return ""
    n = next(iter(tests.values())).n
    shown = [
        f"seed {seed}: only {names[0]} gets {test.only_first} right, only {names[1]} {test.only_second}, "
        f"p {formatting.p_value(test.p)}"
        for seed, test in list(tests.items())[:_SHOWN_SEEDS]
    ]
    if len(tests) > _SHOWN_SEEDS:
        values = [test.p for test in tests.values()]
        shown.append(f"over all {len(tests)} seeds p from {min(values):.2g} to {max(values):.2g}")
    return (
        f"Image by image on {split} (McNemar's exact test of two networks on the same {n:,} images, which is about "
        f"other images and not about other seeds; not corrected): {'; '.join(shown)}."
    )
