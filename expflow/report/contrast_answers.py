"""What the tests of a contrast's analyses say in numbers, by the rules of docs/inference.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from expflow.intervals import Estimate, estimate, metric_estimate
from expflow.ledger.header import Header
from expflow.report import formatting
from expflow.report.contrast_tests import AskedContrast, ComparisonTest
from expflow.report.image_differences import ImageTest
from expflow.report.seed_losses import SideSeeds, fisher_test, side_seeds
from expflow.report.sequential import SeedsNeeded, level_share, seeds_for, sequential_p, step_down_divisors
from expflow.report.statistics import ALPHA, holm, interval_at

Verdict = Literal["as_expected", "opposite", "not_resolved", "exploratory", "in_progress"]
Resolution = Literal["resolved", "resolved_where_trained", "not_resolved", "exploratory", "in_progress"]
OPEN: dict[Verdict, Resolution] = {
    "not_resolved": "not_resolved",
    "exploratory": "exploratory",
    "in_progress": "in_progress",
}
"""The verdicts that decide nothing."""
HoldsFor = Literal["these_images", "other_images", "no_images"]


@dataclass(frozen=True)
class AnalysisResult:
    """What one analysis of a contrast gave.

    Attributes:
        seeds: The planned seeds.
        n: How many of them gave a value on both sides.
        difference: The paired difference with its 95 % interval; None without a common seed.
        p: Probability of the paired test; None where it could not be made.
        p_other_images: The same for other images; None where no values per image are kept.
        share: The share of the level that the analysis has.
    """

    seeds: tuple[int, ...]
    n: int
    difference: Estimate | None
    p: float | None
    p_other_images: float | None
    share: float


@dataclass(frozen=True)
class Answer:
    """The result of one declared contrast.

    Attributes:
        claim: The contrast as it was declared.
        metric: The metric that is compared.
        expect: ``higher``, ``lower`` or ``not_worse``.
        verdict: Whether the claim holds.
        sentence: The whole answer in words.
        n: Number of common seeds.
        of: The mean of the one side over them.
        against: The mean of the other side.
        difference: Their paired difference with its 95 % interval, not corrected.
        level_interval: The same at the level at which it was tested.
        level: That level: of the family, divided among contrasts and analyses.
        bound: The one-sided 95 % bound of a ``not_worse``.
        p: Probability of the newest analysis's paired test.
        p_holm: The p value over all analyses, Holm-corrected over all contrasts that were ever declared.
        p_other_images: The same for other images, where values per image are kept.
        other_images: The 95 % interval of the difference for other seeds and other images.
        holds_for: For which images the answer holds; ``no_images`` where the metric is of none.
        resolution: How far it is resolved; ``resolved_where_trained`` where seeds of a side were lost or lie far out.
        faded: Whether an earlier analysis resolved what the newest one does not.
        agreeing: How many seeds agree with the mean difference in sign.
        analyses: The complete analyses in their order.
        declared: How many contrasts were ever declared.
        variants: Under how many recipes or budgets this one was asked.
        of_seeds: What became of the seeds of the one side.
        against_seeds: What became of those of the other side.
        p_losses: Fisher's exact test of the numbers of lost seeds; None where none was lost.
        seeds_needed: How many seeds would resolve it; given only where it is not resolved.
        next_command: What to type for an answer that an exploratory contrast cannot give; empty otherwise.
        notes: What the sentence leaves out.
    """

    claim: str
    metric: str
    expect: str
    verdict: Verdict
    sentence: str
    n: int
    of: Estimate | None = None
    against: Estimate | None = None
    difference: Estimate | None = None
    level_interval: tuple[float, float] | None = None
    level: float | None = None
    bound: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_other_images: float | None = None
    other_images: ImageTest | None = None
    holds_for: HoldsFor = "these_images"
    resolution: Resolution = "not_resolved"
    faded: bool = False
    agreeing: int = 0
    analyses: tuple[AnalysisResult, ...] = ()
    declared: int = 1
    variants: int = 1
    of_seeds: SideSeeds | None = None
    against_seeds: SideSeeds | None = None
    p_losses: float | None = None
    seeds_needed: SeedsNeeded | None = None
    next_command: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FamilyLevel:
    """What the whole family of contrasts makes of one contrast's p values.

    Attributes:
        p: The p value over analyses, Holm-corrected; None where none could be tested.
        p_other_images: The same for other images.
        divisor: By what Holm's method divides the level for it.
        declared: How many contrasts were ever declared.
    """

    p: float | None
    p_other_images: float | None
    divisor: int
    declared: int


def family_levels(asked: Sequence[AskedContrast], declared: int) -> list[FamilyLevel]:
    """Holm's method over the p values of all contrasts that were ever declared.

    Args:
        asked: The contrasts that are declared now.
        declared: How many were ever declared.
    """
    missing: list[float | None] = [None] * (declared - len(asked))
    seeds = [sequential_p([test.p for test in contrast.tests]) for contrast in asked] + missing
    images = [sequential_p([test.p_other_images for test in contrast.tests]) for contrast in asked] + missing
    divisors = step_down_divisors(seeds)
    rows = zip(holm(seeds), holm(images), divisors, strict=True)
    return [FamilyLevel(p, p_images, divisor, declared) for p, p_images, divisor in rows][: len(asked)]


def conclude_contrast(asked: AskedContrast, level: FamilyLevel, header: Header, *, elsewhere: int = 0) -> Answer:
    """The answer in numbers, without words.

    Args:
        asked: The contrast with its analyses tested.
        level: What the family of contrasts makes of its p values.
        header: The sweep's header.
        elsewhere: Variants of the contrast that other results of the experiment were asked.
    """
    direction = _called_direction(asked, level)
    verdict = _verdict(asked, direction)
    answer = _measured(asked, header)
    whole = all(seeds is not None and seeds.whole for seeds in (answer.of_seeds, answer.against_seeds))
    tested_at = ALPHA * level_share(len(asked.tests)) / level.divisor if asked.tests else None
    return replace(
        answer,
        verdict=verdict,
        level_interval=_level_interval(asked.shown, tested_at),
        level=tested_at,
        p=None if verdict == "in_progress" else answer.p,
        p_holm=level.p,
        p_other_images=level.p_other_images,
        holds_for=_holds_for(asked, level, direction),
        resolution=OPEN.get(verdict, "resolved" if whole else "resolved_where_trained"),
        faded=direction is not None and _faded(asked, direction),
        declared=level.declared,
        variants=asked.history.variants + elsewhere,
        seeds_needed=_needed(asked, level) if verdict == "not_resolved" else None,
    )


def _measured(asked: AskedContrast, header: Header) -> Answer:
    """What was measured, before anything is concluded from it."""
    contrast, shown, test = asked.contrast, asked.shown, asked.shown.test
    of, against = (side_seeds(shown.comparison, side, shown.planned, header) for side in ("of", "against"))
    known, one_sided = bool(shown.seeds), contrast["expect"] == "not_worse"
    samples = header.measured_on(contrast["metric"])
    return Answer(
        claim="",
        metric=contrast["metric"],
        expect=contrast["expect"],
        verdict="in_progress",
        sentence="",
        n=len(shown.seeds),
        of=_side_estimate(asked, shown.of, samples, header.overlap) if known else None,
        against=_side_estimate(asked, shown.against, samples, header.overlap) if known else None,
        difference=shown.difference,
        bound=shown.turn * test.bound if test and test.bound is not None and one_sided else None,
        p=shown.p,
        other_images=_turned(shown),
        agreeing=_agreeing(shown),
        analyses=_results(asked),
        of_seeds=of,
        against_seeds=against,
        p_losses=_losses_test(of, against),
    )


def _side_estimate(asked: AskedContrast, values: Sequence[float], samples: int | None, overlap: float) -> Estimate:
    """A side's mean; with ``by`` it is a difference itself, and no share."""
    if asked.contrast.get("by"):
        return estimate(values, overlap)
    return metric_estimate(asked.contrast["metric"], values, samples, overlap)


def _verdict(asked: AskedContrast, direction: float | None) -> Verdict:
    if direction is not None:
        expect = asked.contrast["expect"]
        if expect == "not_worse":
            return "as_expected"
        return "as_expected" if (direction > 0) == (expect == "higher") else "opposite"
    if asked.tests:
        return "not_resolved"
    if asked.history.seen:
        return "exploratory"
    return "in_progress" if asked.in_progress else "not_resolved"


def _called_direction(asked: AskedContrast, level: FamilyLevel) -> float | None:
    """The sign of the difference that an analysis resolved; None where none did, or two in opposite directions."""
    if level.p is None or level.p > ALPHA:
        return None
    calls = _calls(asked, level.divisor)
    signs = {1.0 if test.turn * test.test.difference.mean > 0 else -1.0 for test in calls if test.test is not None}
    if asked.contrast["expect"] == "not_worse":
        return 1.0
    return signs.pop() if len(signs) == 1 else None


def _calls(asked: AskedContrast, divisor: int) -> list[ComparisonTest]:
    return [
        test
        for number, test in enumerate(asked.tests, start=1)
        if test.p is not None and test.p * divisor <= ALPHA * level_share(number)
    ]


def _faded(asked: AskedContrast, direction: float) -> bool:
    """Whether the newest analysis, taken alone, does not say what an earlier one said."""
    newest = asked.tests[-1]
    if newest.p is None or newest.p > ALPHA or newest.test is None:
        return True
    return asked.contrast["expect"] != "not_worse" and newest.turn * newest.test.difference.mean * direction <= 0


def _holds_for(asked: AskedContrast, level: FamilyLevel, direction: float | None) -> HoldsFor:
    if not formatting.is_measured_on_images(asked.contrast["metric"]):
        return "no_images"
    resolved = direction is not None and level.p_other_images is not None and level.p_other_images <= ALPHA
    return "other_images" if resolved else "these_images"


def _level_interval(shown: ComparisonTest, level: float | None) -> tuple[float, float] | None:
    if level is None or len(shown.seeds) < 2:
        return None
    return interval_at(level, shown.differences, shown.overlap)


def _turned(shown: ComparisonTest) -> ImageTest | None:
    """The test for other images, as of the difference that was declared."""
    if shown.images is None or shown.turn > 0:
        return shown.images
    return ImageTest(shown.images.images, shown.images.p, -shown.images.high, -shown.images.low, shown.images.freedom)


def _agreeing(shown: ComparisonTest) -> int:
    total = sum(shown.differences)
    return sum(difference * total > 0 for difference in shown.differences)


def _losses_test(of: SideSeeds, against: SideSeeds) -> float | None:
    if not of.lost + against.lost:
        return None
    return fisher_test(of.lost, of.planned, against.lost, against.planned)


def _results(asked: AskedContrast) -> tuple[AnalysisResult, ...]:
    return tuple(
        AnalysisResult(
            test.planned,
            len(test.seeds),
            test.difference,
            test.p,
            test.p_other_images,
            level_share(number),
        )
        for number, test in enumerate(asked.tests, start=1)
    )


def _needed(asked: AskedContrast, level: FamilyLevel) -> SeedsNeeded | None:
    """Seeds that would resolve the observed effect at the next analysis, at the strictest level of Holm's."""
    test = asked.shown.test
    if test is None or test.effect is None:
        return None
    alpha = ALPHA * level_share(len(asked.tests) + 1) / level.declared
    one_sided = asked.contrast["expect"] == "not_worse"
    count, overlap = len(asked.shown.seeds), asked.shown.overlap
    needed = seeds_for(test.effect, count, alpha, one_sided=one_sided, overlap=overlap)
    return needed if needed.low is not None else None
