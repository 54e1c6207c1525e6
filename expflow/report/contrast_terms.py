"""What a declared contrast compares: two values for each seed, each a sum over configs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from expflow.config.identity import canonical_json
from expflow.ledger.header import Header
from expflow.ledger.state import TrialState
from expflow.ledger.trial_values import counted_value
from expflow.report import formatting, trial_results
from expflow.report.trial_results import ConfigTrials

Side = Literal["of", "against"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Term:
    """One config of a comparison, or several that differ only in what a side is tuned over.

    Attributes:
        side: On which side of the contrast it is.
        first: Whether it belongs to the first of the two values that are compared, else to the second.
        weight: What its value is multiplied by.
        candidates: The config; or those among which each side's own best is chosen.
    """

    side: Side
    first: bool
    weight: float
    candidates: tuple[ConfigTrials, ...]


@dataclass(frozen=True)
class Comparison:
    """The configs that a contrast compares.

    Attributes:
        contrast: The contrast, as the header holds it.
        terms: All configs; none where no two were tried that differ in this alone.
        averaged: Over how many pairs of configs a seed's value is averaged.
        why: Why it cannot be tested although there are configs; empty where it can.
    """

    contrast: Mapping[str, Any]
    terms: tuple[Term, ...]
    averaged: int
    why: str = ""

    @property
    def configs(self) -> list[ConfigTrials]:
        """Every config that takes part, once."""
        return list({config.config: config for term in self.terms for config in term.candidates}.values())

    @property
    def pairs(self) -> list[tuple[Term, Term]]:
        """The terms two by two: one of either side, which differ in nothing but the sides."""
        return list(zip(self.terms[::2], self.terms[1::2], strict=True))

    def of_side(self, side: Side) -> list[ConfigTrials]:
        """The configs of one side.

        Args:
            side: ``of`` or ``against``.
        """
        members = (config for term in self.terms if term.side == side for config in term.candidates)
        return list({config.config: config for config in members}.values())


def contrast_key(contrast: Mapping[str, Any]) -> str:
    """What makes a contrast the same one in another version of the file: metric, sides, where and margin.

    What is expected is no part of it, and the two sides have no order where the test has none.

    Args:
        contrast: A declared contrast, as a header holds it.
    """
    sides = [canonical_json(contrast["of"]), canonical_json(contrast["against"])]
    one_sided = contrast["expect"] == "not_worse"
    parts = {
        "metric": contrast["metric"],
        "sides": sides if one_sided else sorted(sides),
        "where": contrast.get("where") or {},
        "margin": contrast.get("margin") if one_sided else None,
        "by": contrast.get("by") or {},
        "tuned_over": sorted(contrast.get("tuned_over") or ()),
    }
    return canonical_json(parts)


def compare(contrast: Mapping[str, Any], configs: Sequence[ConfigTrials], header: Header) -> Comparison:
    """Match the configs that differ in the contrast's keys only.

    Args:
        contrast: The declared contrast, as the header holds it.
        configs: The configs among which they are looked for.
        header: The header with the base recipe.
    """
    levels = _levels(contrast)
    named = {*contrast["of"], *contrast["against"], *(key for level in levels for key in level)}
    groups = [
        {
            side: _by_rest(
                configs, {**(contrast.get("where") or {}), **level, **contrast[side]}, named, contrast, header
            )
            for side in ("of", "against")
        }
        for level in levels
    ]
    sides = [group[side] for group in groups for side in ("of", "against")]
    common = [rest for rest in sides[0] if all(rest in side for side in sides)]
    weight = 1 / len(common) if common else 0.0
    terms = tuple(term for rest in common for term in _terms(groups, rest, weight))
    return Comparison(contrast, terms, len(common), _unequal(terms, contrast))


def _levels(contrast: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The values of ``by`` between which the difference is compared; one level without any where it is not."""
    by = contrast.get("by") or {}
    if not by:
        return [{}]
    ((key, values),) = by.items()
    return [{key: value} for value in values]


def _terms(groups: Sequence[Mapping[str, Mapping[str, Any]]], rest: str, weight: float) -> Iterable[Term]:
    """Plainly ``of`` against ``against``. With two levels the difference at the second against that at the first."""
    if len(groups) == 1:
        yield Term("of", True, weight, groups[0]["of"][rest])
        yield Term("against", False, weight, groups[0]["against"][rest])
        return
    for first, group in ((False, groups[0]), (True, groups[1])):
        yield Term("of", first, weight, group["of"][rest])
        yield Term("against", first, -weight, group["against"][rest])


def _unequal(terms: Sequence[Term], contrast: Mapping[str, Any]) -> str:
    if not contrast.get("tuned_over"):
        return ""
    counts = sorted({len(term.candidates) for term in terms})
    if len(counts) < 2:
        return ""
    return (
        f"the sides are tuned over {formatting.and_join(contrast['tuned_over'])} with unequal numbers of trials "
        f"({formatting.and_join(map(str, counts))})"
    )


def _by_rest(
    configs: Sequence[ConfigTrials],
    wanted: Mapping[str, Any],
    named: AbstractSet[str],
    contrast: Mapping[str, Any],
    header: Header,
) -> dict[str, tuple[ConfigTrials, ...]]:
    """Matching configs by their values of the keys that the contrast does not name; several where they are tuned."""
    tuned = tuple(contrast.get("tuned_over") or ())
    matching: dict[str, list[ConfigTrials]] = {}
    for config in configs:
        if trial_results.has_values(config, wanted, header):
            rest = {key: value for key, value in config.values.items() if not _about(key, {*named, *tuned})}
            matching.setdefault(repr(sorted(rest.items(), key=lambda item: item[0])), []).append(config)
    return {rest: tuple(members if tuned else members[:1]) for rest, members in matching.items()}


def _about(key: str, named: AbstractSet[str]) -> bool:
    """Whether searched ``key`` is one that the contrast names, or holds one (``model`` holds ``model.depth``)."""
    return any(name == key or name.startswith(key + ".") for name in named)


def names_whole_space(contrast: Mapping[str, Any], header: Header) -> bool:
    """Whether a contrast names every searched key, so that no further config can join its sides.

    Args:
        contrast: The declared contrast.
        header: The header with the searched space.
    """
    named = {*(contrast.get("where") or {}), *(contrast.get("by") or {})}
    fixed = [named | set(contrast[side]) for side in ("of", "against")]
    return all(str(dimension["key"]) in keys for dimension in header.space for keys in fixed)


def complete_seeds(comparison: Comparison, seeds: Iterable[int], header: Header) -> list[int]:
    """The seeds for which every config of a comparison has a value.

    A seed that lacks one of the pairs is left out as a whole: averaging it over fewer configs than the others would
    mix the effect of the seed with that of the configs.

    Args:
        comparison: The configs.
        seeds: The seeds that are asked for.
        header: The sweep's header.
    """
    metrics = {comparison.contrast["metric"]}
    if comparison.contrast.get("tuned_over"):
        metrics.add(header.metric)
    known = [_seeds_with(config, metric, header) for config in comparison.configs for metric in metrics]
    return sorted(set(seeds).intersection(*known)) if known else []


def _seeds_with(config: ConfigTrials, metric: str, header: Header) -> set[int]:
    return {trial.seed for trial in config.trials if counted_value(trial, metric, header) is not None}


def chosen_trial(term: Term, seed: int, seeds: Sequence[int], header: Header) -> TrialState:
    """The trial whose value a term has for a seed: that of its config, or of its best one on the other seeds.

    Args:
        term: The term.
        seed: The seed that is measured.
        seeds: All seeds that are complete; the choice is made on those besides ``seed``.
        header: The sweep's header; the choice is made by its metric.
    """

    def score(config: ConfigTrials) -> float:
        values = [
            counted_value(trial, header.metric, header)
            for trial in config.trials
            if trial.seed in seeds and trial.seed != seed
        ]
        total = sum(value for value in values if value is not None)
        return total if header.mode == "max" else -total

    config = max(term.candidates, key=score) if len(term.candidates) > 1 else term.candidates[0]
    return next(trial for trial in config.trials if trial.seed == seed)


def side_values(
    comparison: Comparison,
    seeds: Sequence[int],
    header: Header,
    value: Callable[[TrialState], Value],
    add: Callable[[Sequence[tuple[float, Value]]], Value],
) -> tuple[list[Value], list[Value]]:
    """The two values that are compared, for each seed.

    Args:
        comparison: The configs.
        seeds: Seeds that are complete.
        header: The sweep's header.
        value: What counts of a trial: a number, or an array over images.
        add: Adds up values with their weights.
    """
    sides: tuple[list[Value], list[Value]] = ([], [])
    for seed in seeds:
        for first, values in ((True, sides[0]), (False, sides[1])):
            terms = [term for term in comparison.terms if term.first == first]
            values.append(add([(term.weight, value(chosen_trial(term, seed, seeds, header))) for term in terms]))
    return sides


def seed_values(comparison: Comparison, seeds: Sequence[int], header: Header) -> tuple[list[float], list[float]]:
    """The two values of a metric that are compared, for each seed.

    Args:
        comparison: The configs.
        seeds: Seeds that are complete.
        header: The sweep's header.
    """
    metric = comparison.contrast["metric"]

    def value(trial: TrialState) -> float:
        known = counted_value(trial, metric, header)
        return float("nan") if known is None else known

    return side_values(comparison, seeds, header, value, lambda parts: sum(weight * part for weight, part in parts))
