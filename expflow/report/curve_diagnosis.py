"""What each config's learning curves show (overfitting, underfitting, halted early, …) and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.ledger.trial_values import finite
from expflow.registry import TASKS
from expflow.report import trial_results
from expflow.report.leaderboard import Leaderboard, rank_configs
from expflow.report.trial_results import ConfigTrials
from expflow.training.evaluation.diagnosis import LearningCurves, diagnose, learning_curves

REMEDIES: dict[str, str] = {
    "good_fit": "",
    "too_short_to_tell": "",
    "overfitting": "more data or stronger augmentation, more weight decay or dropout, a smaller model, early stopping",
    "underfitting": "another learning rate, a larger model, weaker regularization or augmentation, more epochs",
    "halted_early": "more epochs, or a higher learning rate",
    "val_too_easy": "another val split, one that represents train (fit/loss is train, measured as val is)",
    "val_too_few": "a larger val split",
}
"""Kind of a verdict -> what would help."""
MOST_DIAGNOSED = 1000
"""Configs whose curves are looked at, the best ones: each costs a millisecond."""
_HEALTHY = ("good_fit", "too_short_to_tell")


@dataclass(frozen=True)
class CurveDiagnosis:
    """What the learning curves of one config show. It is a hint for readers of curves, and no test of significance.

    Attributes:
        label: The config in words.
        seeds: Over how many completed seeds the curves are averaged.
        kind: The verdict's kind, one of :data:`REMEDIES`.
        title: The kind in words: ``overfitting``.
        sentence: What the verdict was read from, in numbers.
        help: What would help; empty where nothing has to be done.
    """

    label: str
    seeds: int
    kind: str
    title: str
    sentence: str
    help: str

    @property
    def healthy(self) -> bool:
        """Whether there is no finding: a good fit, or curves that are too short to be read."""
        return self.kind in _HEALTHY


def curve_diagnoses(state: SweepState, board: Leaderboard | None = None) -> list[CurveDiagnosis]:
    """A diagnosis of the configs with completed seeds that reported losses on train and val, best config first.

    Args:
        state: What the ledger adds up to.
        board: Its leaderboard, where that is known already.
    """
    header, rows = trial_results.header_of(state), (board or rank_configs(state)).rows
    configs = {config.config: config for config in trial_results.configs(state)}
    diagnoses = (_diagnosis(configs[row.config], header) for row in rows[:MOST_DIAGNOSED])
    return [diagnosis for diagnosis in diagnoses if diagnosis is not None]


def _diagnosis(config: ConfigTrials, header: Header) -> CurveDiagnosis | None:
    spec = header.data.get("spec")
    classes = len(spec.get("classes") or ()) if isinstance(spec, Mapping) and _names_classes(header) else 0
    samples = header.samples.get("val", 0)
    complete = [trial for trial in config.trials if trial.status == "done"]
    seeds = [
        curves
        for trial in complete
        if (curves := learning_curves([report.metrics for report in trial.reports])) is not None
    ]
    if not seeds:
        return None
    verdict = diagnose(replace(_mean_curves(seeds), val_samples=samples, classes=classes))
    title = verdict.title
    return CurveDiagnosis(config.label, len(seeds), verdict.kind, title, verdict.sentence, REMEDIES[verdict.kind])


def _names_classes(header: Header) -> bool:
    """Whether the loss is that of naming one of the classes, so that guessing costs the logarithm of their number.

    A task of the user's may be one that does; of ours these two do.
    """
    task = header.recipe.get("task")
    name = task.get("name", "") if isinstance(task, Mapping) else str(task or "")
    return name in ("classification", "segmentation") or name not in TASKS


def _mean_curves(seeds: Sequence[LearningCurves]) -> LearningCurves:
    """The mean of the seeds' curves at the epochs that all of them have."""
    tracks = [dict(zip(curves.epochs, zip(curves.train, curves.val, strict=True), strict=True)) for curves in seeds]
    epochs = sorted(set.intersection(*(set(track) for track in tracks)))
    train = [sum(track[epoch][0] for track in tracks) / len(tracks) for epoch in epochs]
    val = [sum(track[epoch][1] for track in tracks) / len(tracks) for epoch in epochs]
    fits = [fit for curves in seeds if (fit := finite(curves.fit)) is not None]
    return LearningCurves(epochs, train, val, sum(fits) / len(fits) if len(fits) == len(seeds) else None)
