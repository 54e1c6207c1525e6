"""A diagnosis of a training from its learning curves, by numbers.

Good fit (both losses fall, converge, and hardly differ), overfitting (val rises while train falls), underfitting (the
training loss does not fall), halted too early (both were still falling), and a val set that does not represent the
training set: easier than it, or of too few samples to be read. Pure functions of the reports, with every threshold
named here. A verdict is a hint for a reader of curves, with its evidence, and no test of significance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Literal

Kind = Literal[
    "good_fit", "overfitting", "underfitting", "halted_early", "val_too_easy", "val_too_few", "too_short_to_tell"
]

FEWEST = 6
"""Points that a curve must have to be read."""
FLAT = 0.10
"""A training loss that fell by less than this share of where it began has not fallen."""
STUCK = 0.5
"""A loss above this share of what guessing costs (ln classes) is high."""
STILL = 0.10
"""A loss that lost more than this share of itself in the last quarter was still falling."""
RISE = 0.10
"""A val loss that ends above its lowest point by more than this share of its whole fall has risen."""
GAP = 0.15
"""Final losses on val and train that differ by more than this share of the val loss's fall hardly "converge"."""
EASIER = 0.8
"""A val loss below this share of the training loss is of easier samples."""
NOISE = 3.0
"""A val curve that jumps this many times as much as the training curve, and more than it moves, cannot be read."""


@dataclass(frozen=True)
class LearningCurves:
    """One training's losses over its epochs.

    Attributes:
        epochs: The epoch of each point.
        train: The training loss, as a running mean over the epoch.
        val: The loss on val.
        fit: The final loss on the training set, measured as val is; None where it is unknown: ``train`` is used then.
        val_samples: Samples of val; 0 where it is unknown.
        classes: How many classes there are; 0 where it is unknown.
    """

    epochs: Sequence[float]
    train: Sequence[float]
    val: Sequence[float]
    fit: float | None = None
    val_samples: int = 0
    classes: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the curves show.

    Attributes:
        kind: Which case it is.
        sentence: The same in words.
        evidence: The numbers that it was read from.
    """

    kind: Kind
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """``good fit``."""
        return self.kind.replace("_", " ")


def learning_curves(
    reports: Iterable[Mapping[str, float]], *, val_samples: int = 0, classes: int = 0
) -> LearningCurves | None:
    """The curves in a trial's reports; None where they have no losses of train and val.

    The running mean of an epoch's training loss is that of the middle of the epoch, with dropout and augmentation in
    it; ``fit/loss`` of the last report is not.

    Args:
        reports: The metrics of each report, in order.
        val_samples: Samples of val; 0 where it is unknown.
        classes: How many classes there are; 0 where it is unknown.
    """
    rows, fit = [], None
    for number, metrics in enumerate(reports, start=1):
        fit = metrics.get("fit/loss", fit)
        losses = [metrics.get("train/loss"), metrics.get("val/loss")]
        if all(loss is not None and math.isfinite(loss) for loss in losses):
            rows.append((metrics.get("progress/epoch", float(number)), *(loss or 0.0 for loss in losses)))
    if not rows:
        return None
    epochs, train, val = zip(*rows, strict=True)
    return LearningCurves(epochs, train, val, fit, val_samples, classes)


def diagnose(curves: LearningCurves) -> Verdict:
    """Say what the curves show. Each case rules out what would mislead the cases behind it.

    Args:
        curves: One training's losses.
    """
    if len(curves.val) < FEWEST:
        return Verdict(
            "too_short_to_tell", f"{len(curves.val)} validated epochs; at least {FEWEST} are needed to read a curve"
        )
    facts = _facts(curves)
    for rule in (_too_few, _too_easy, _underfit, _overfit, _halted, _wide):
        if (verdict := rule(curves, facts)) is not None:
            return verdict
    sentence = (
        f"both losses fell and converged: val ends at {facts['val_end']:.3g}, "
        f"{_share(facts['gap'], facts['val_fall'])} of its fall away from train"
    )
    return Verdict("good_fit", sentence, facts)


def _facts(curves: LearningCurves) -> dict[str, float]:
    train_end = curves.fit if curves.fit is not None else _end(curves.train)
    lowest = min(range(len(curves.val)), key=lambda at: curves.val[at])
    facts = {
        "train_start": curves.train[0],
        "train_end": train_end,
        "train_fall": curves.train[0] - _end(curves.train),
        "train_lost_last_quarter": _lost_at_the_end(curves.train),
        "val_start": curves.val[0],
        "val_end": _end(curves.val),
        "val_min": curves.val[lowest],
        "val_min_epoch": float(curves.epochs[lowest]),
        "val_fall": max(curves.val) - min(curves.val),
        "val_lost_last_quarter": _lost_at_the_end(curves.val),
        "gap": _end(curves.val) - train_end,
        "train_noise": _noise(curves.train),
        "val_noise": _noise(curves.val),
    }
    if curves.val_samples:
        facts["val_samples"] = float(curves.val_samples)
    if curves.classes > 1:
        facts["guessing"] = math.log(curves.classes)
    return facts


def _too_few(curves: LearningCurves, facts: Mapping[str, float]) -> Verdict | None:
    """Val jumps about around a training loss that moves smoothly: more than its own movement can be seen through."""
    noise, moved = facts["val_noise"], abs(fmean(curves.val[:3]) - fmean(curves.val[-3:]))
    if noise <= NOISE * max(facts["train_noise"], 1e-12) or 2 * noise <= max(moved, RISE * fmean(curves.val)):
        return None
    count = f"; it has {curves.val_samples} samples" if curves.val_samples else ""
    sentence = (
        f"the val loss jumps by {noise:.3g} from epoch to epoch, the training loss by {facts['train_noise']:.2g}: "
        f"val is too few samples to be read{count}"
    )
    return Verdict("val_too_few", sentence, facts)


def _too_easy(curves: LearningCurves, facts: Mapping[str, float]) -> Verdict | None:
    """Val below train, both measured alike, over the last third."""
    tail = max(2, len(curves.val) // 3)
    level = facts["train_end"] if curves.fit is not None else fmean(curves.train[-tail:])
    easier = fmean(curves.val[-tail:])
    if easier >= EASIER * level or level - easier <= 2 * facts["val_noise"] / math.sqrt(tail):
        return None
    note = "" if curves.fit is not None else " (its running mean in train mode, which dropout and augmentation raise)"
    sentence = f"the val loss ends at {easier:.3g}, below the training loss of {level:.3g}{note}: val is easier"
    return Verdict("val_too_easy", sentence, facts)


def _underfit(curves: LearningCurves, facts: Mapping[str, float]) -> Verdict | None:
    """The training loss has not fallen, or came to rest at a high level."""
    if facts["train_fall"] < FLAT * facts["train_start"] and not _fits_well(facts):
        share = _share(max(facts["train_fall"], 0.0), facts["train_start"])
        sentence = f"the training loss fell from {facts['train_start']:.3g} by {share} in {len(curves.train)} epochs"
        return Verdict("underfitting", sentence, facts)
    guessing = facts.get("guessing", 0.0)
    rests = facts["train_lost_last_quarter"] < STILL
    if guessing and rests and facts["train_end"] > STUCK * guessing:
        sentence = (
            f"the training loss rests at {facts['train_end']:.3g}, {_share(facts['train_end'], guessing)} of what "
            f"guessing costs ({guessing:.3g})"
        )
        return Verdict("underfitting", sentence, facts)
    return None


def _fits_well(facts: Mapping[str, float]) -> bool:
    """Whether the training loss was low from the first epoch on, as after a transfer."""
    return facts["train_end"] < FLAT * facts.get("guessing", math.log(2))


def _overfit(curves: LearningCurves, facts: Mapping[str, float]) -> Verdict | None:
    """Val has risen from its lowest point while train went on falling."""
    rise = facts["val_end"] - facts["val_min"]
    lowest = list(curves.val).index(facts["val_min"])
    went_on = _end(curves.train) < curves.train[lowest]
    if rise <= max(RISE * facts["val_fall"], 2 * facts["val_noise"]) or not went_on or lowest >= len(curves.val) - 2:
        return None
    sentence = (
        f"the val loss rose from {facts['val_min']:.3g} at epoch {facts['val_min_epoch']:g} to {facts['val_end']:.3g}, "
        f"while the training loss fell from {curves.train[lowest]:.3g} to {_end(curves.train):.3g}"
    )
    return Verdict("overfitting", sentence, facts)


def _halted(curves: LearningCurves, facts: Mapping[str, float]) -> Verdict | None:
    """Both were still falling at the end."""
    val, train = facts["val_lost_last_quarter"], facts["train_lost_last_quarter"]
    if min(val, train) < STILL or facts["val_end"] * val < 2 * facts["val_noise"]:
        return None
    sentence = f"both losses were still falling: in the last quarter val lost {val:.0%} of itself, train {train:.0%}"
    return Verdict("halted_early", sentence, facts)


def _wide(curves: LearningCurves, facts: Mapping[str, float]) -> Verdict | None:
    """Val rests, but far above train."""
    fits_all = facts["val_end"] < FLAT * facts.get("guessing", 0.0)  # then a gap is a small one, whatever fell
    if fits_all or facts["gap"] <= max(GAP * facts["val_fall"], 2 * facts["val_noise"]):
        return None
    sentence = (
        f"the val loss rests at {facts['val_end']:.3g} and the training loss ends at {facts['train_end']:.3g}: a gap "
        f"of {_share(facts['gap'], facts['val_fall'])} of the fall of val, which does not rise"
    )
    return Verdict("overfitting", sentence, facts)


def _end(curve: Sequence[float]) -> float:
    """Where a curve ends: the median of its last three points, which one jump does not move."""
    return median(curve[-3:])


def _lost_at_the_end(curve: Sequence[float]) -> float:
    """Share of itself that a curve lost over its last quarter, of at least three points, by a straight line."""
    tail = list(curve[-max(3, len(curve) // 4 + 1) :])
    middle, mean = (len(tail) - 1) / 2, fmean(tail)
    slope = sum((at - middle) * (loss - mean) for at, loss in enumerate(tail)) / sum(
        (at - middle) ** 2 for at in range(len(tail))
    )
    start = mean - slope * middle
    return -slope * (len(tail) - 1) / start if start > 0 else 0.0


def _noise(curve: Sequence[float]) -> float:
    """How much a curve jumps from point to point: the median second difference in its second half, as the standard
    deviation that independent jumps would have. A straight or slowly bending curve has none."""
    half = list(curve[len(curve) // 2 - 1 :])
    bends = [abs(half[at - 1] - 2 * half[at] + half[at + 1]) for at in range(1, len(half) - 1)]
    return median(bends) / (0.6745 * math.sqrt(6)) if bends else 0.0


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "100%"
