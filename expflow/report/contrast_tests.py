"""The analyses of a declared contrast, each tested over seeds and, where values per image are kept, over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expflow.intervals import Estimate, estimate
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import formatting, trial_results
from expflow.report.analyses import Analysis, ContrastHistory, contrast_history
from expflow.report.contrast_terms import Comparison, complete_seeds, seed_values
from expflow.report.image_differences import ImageDifferences, ImageTest
from expflow.report.statistics import PairedTest, paired_test


@dataclass(frozen=True)
class ComparisonTest:
    """A comparison over some seeds, tested.

    Attributes:
        comparison: The configs.
        planned: The seeds that were planned.
        seeds: Those that are complete.
        of: The one value of each of them.
        against: The other value.
        test: The test of ``of - against``, turned so that up is better where the contrast is one of ``not_worse``;
            None without a common seed.
        images: The test for other images; None where no values per image are kept.
        turn: -1 where the test is of the turned difference.
        overlap: What the trainings have in common, where each has a split of its own; else 0.
    """

    comparison: Comparison
    planned: tuple[int, ...]
    seeds: tuple[int, ...]
    of: tuple[float, ...]
    against: tuple[float, ...]
    test: PairedTest | None
    images: ImageTest | None
    turn: float
    overlap: float = 0.0

    @property
    def differences(self) -> list[float]:
        """The difference of each seed, not turned."""
        return [left - right for left, right in zip(self.of, self.against, strict=True)]

    @property
    def difference(self) -> Estimate | None:
        """The mean difference, not turned; None without a common seed."""
        return estimate(self.differences, self.overlap) if self.seeds else None

    @property
    def p(self) -> float | None:
        """Probability over seeds."""
        return self.test.p if self.test is not None else None

    @property
    def p_other_images(self) -> float | None:
        """Probability over seeds and images: never below that over seeds alone, and the same where each seed has val
        images of its own."""
        if self.overlap and self.comparison.contrast["metric"].startswith("val/"):
            return self.p
        if self.p is None or self.images is None or self.images.p is None:
            return None
        return max(self.p, self.images.p)


@dataclass(frozen=True)
class AskedContrast:
    """A declared contrast with its analyses tested.

    Attributes:
        contrast: The contrast as the header holds it.
        history: What became of it.
        tests: Its complete analyses in their order.
        shown: What its numbers are of: the newest analysis, or before the first one all seeds so far.
        plan_complete: Whether every trial of the latest plan has ended.
    """

    contrast: Mapping[str, Any]
    history: ContrastHistory
    tests: tuple[ComparisonTest, ...]
    shown: ComparisonTest
    plan_complete: bool

    @property
    def in_progress(self) -> bool:
        """Whether planned trials of it are still to come."""
        if self.history.running is not None:
            return True
        if self.plan_complete:
            return False
        configs, seeds = self.history.comparison.configs, set(self.history.seeds)
        return not configs or any(seeds - {trial.seed for trial in config.trials if trial.ended} for config in configs)


def ask_contrast(contrast: Mapping[str, Any], state: SweepState, images: ImageDifferences | None) -> AskedContrast:
    """Test every complete analysis of a contrast.

    Args:
        contrast: The contrast as the header holds it.
        state: What the ledger adds up to.
        images: The differences image by image; None where only seeds are to be tested over.
    """
    progress = trial_results.progress(state)
    complete = progress.complete and progress.expected > 0
    header, history = trial_results.header_of(state), contrast_history(contrast, state)
    tests = tuple(_tested(analysis, header, images) for analysis in history.analyses)
    if tests:
        return AskedContrast(contrast, history, tests, tests[-1], complete)
    seeds = sorted({trial.seed for config in history.comparison.configs for trial in config.trials})
    so_far = _tested(Analysis(tuple(seeds), history.comparison, None), header, None)
    return AskedContrast(contrast, history, (), so_far, complete)


def _tested(analysis: Analysis, header: Header, images: ImageDifferences | None) -> ComparisonTest:
    comparison = analysis.comparison
    contrast = comparison.contrast
    seeds = complete_seeds(comparison, analysis.seeds, header)
    of, against = seed_values(comparison, seeds, header)
    one_sided = contrast["expect"] == "not_worse"
    better = formatting.direction(contrast["metric"], header)
    turn, overlap = (-1.0 if one_sided and better == "min" else 1.0), header.overlap
    margin = contrast.get("margin") if one_sided else None
    test, over_images = None, None
    if seeds:
        why = comparison.why
        if one_sided and better is None:
            why = f"it is not known whether more of {contrast['metric']} is better"
        elif one_sided and margin is None:
            why = "`not_worse` needs a declared `margin`"
        if why:
            test = PairedTest(estimate([left - right for left, right in zip(of, against, strict=True)]), why=why)
        else:
            test = paired_test([turn * value for value in of], [turn * value for value in against], margin, overlap)
        if images is not None and test.p is not None:
            over_images = images.test(comparison, seeds, header, turn, margin)
    values = tuple(of), tuple(against)
    return ComparisonTest(comparison, analysis.seeds, tuple(seeds), *values, test, over_images, turn, overlap)
