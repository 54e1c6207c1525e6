"""How often a contrast was asked: its analyses, whether it was declared before its results were there, its variants.

Everything is read off the ledger: each driver's header says which contrasts were declared and which seeds were planned
then. An analysis is a further planned set of trials of a contrast that has ended on both sides; whether anybody looked
at it does not matter, so that reading changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from expflow.config.identity import canonical_json
from expflow.ledger.state import DriverStart, SweepState
from expflow.report import trial_results
from expflow.report.contrast_terms import Comparison, compare, contrast_key, names_whole_space
from expflow.report.trial_results import ConfigTrials

FEWEST_SEEDS = 2
"""With fewer there is no test, whatever the results, so that nothing of the level is spent."""


@dataclass(frozen=True)
class Analysis:
    """A planned set of a contrast's trials.

    Attributes:
        seeds: The planned seeds, without those that were seen when the contrast was declared.
        comparison: Its configs.
        completed_at: When the last of its trials ended (unix seconds); None while some have not.
    """

    seeds: tuple[int, ...]
    comparison: Comparison
    completed_at: float | None


@dataclass(frozen=True)
class ContrastHistory:
    """What became of a declared contrast.

    Attributes:
        comparison: The latest plan's configs.
        seeds: The latest plan's seeds.
        analyses: Those that are complete, in the order in which they became complete.
        running: The latest plan's, where it has not ended.
        seen: The seeds whose trials had ended on both sides when the contrast was declared.
        variants: Under how many recipes or budgets the same contrast was asked.
    """

    comparison: Comparison
    seeds: tuple[int, ...]
    analyses: tuple[Analysis, ...]
    running: Analysis | None
    seen: tuple[int, ...]
    variants: int

    @property
    def exploratory(self) -> bool:
        """Whether the contrast was declared when its results were there, and no new seeds have answered it since."""
        return bool(self.seen) and not self.analyses


@dataclass(frozen=True)
class _Planned:
    """A contrast as one driver's start planned it. ``members`` tell a variant from others: pairs of a config and its
    budget."""

    start: DriverStart
    comparison: Comparison
    members: frozenset[str]


def declared_count(state: SweepState) -> int:
    """How many contrasts were ever declared: one that was taken out of the file counts on.

    The same contrast under another recipe or for more epochs is another one.

    Args:
        state: What the ledger adds up to.
    """
    keys: dict[str, dict[str, Any]] = {}
    for start in state.starts:
        for contrast in start.header.report.get("contrasts", ()):
            keys.setdefault(contrast_key(contrast), contrast)
    return sum(len(_variants(_planned(contrast, state))) for contrast in keys.values())


def asked_variants(contrast: Mapping[str, Any], states: Iterable[SweepState]) -> int:
    """In how many variants other results of the experiment were asked the same contrast.

    Args:
        contrast: A declared contrast.
        states: What the other ledgers add up to.
    """
    return sum(len(_variants(_planned(contrast, state))) for state in states)


def contrast_history(contrast: Mapping[str, Any], state: SweepState) -> ContrastHistory:
    """The analyses of a contrast that the latest header declares.

    Args:
        contrast: The contrast as the header holds it.
        state: What the ledger adds up to.
    """
    header = trial_results.header_of(state)
    comparison = compare(contrast, trial_results.configs(state), header)
    variants = _variants(_planned(contrast, state))
    own = variants[-1] if variants else []
    seen = _seen(own, state)
    planned = [analysis for start in own for analysis in _analyses(start, state, seen)]
    unique: dict[str, Analysis] = {}
    for analysis in planned:
        members = sorted(config.config for config in analysis.comparison.configs)
        known = unique.setdefault(canonical_json([members, analysis.seeds]), analysis)
        if known.completed_at is None and analysis.completed_at is not None:
            unique[canonical_json([members, analysis.seeds])] = analysis
    complete = [analysis for analysis in unique.values() if analysis.completed_at is not None]
    last = planned[-1] if planned else None
    return ContrastHistory(
        comparison,
        tuple(header.seeds),
        tuple(sorted(complete, key=lambda analysis: analysis.completed_at or 0.0)),
        last if last is not None and last.completed_at is None else None,
        tuple(sorted(seen)),
        max(1, len(variants)),
    )


def _planned(contrast: Mapping[str, Any], state: SweepState) -> list[_Planned]:
    """The contrast as each start that declares it planned it."""
    key = contrast_key(contrast)
    planned: list[_Planned] = []
    for start in state.starts:
        declared = start.header.report.get("contrasts", ())
        if not any(contrast_key(other) == key for other in declared):
            continue
        same = next((plan for plan in reversed(planned) if plan.start.planned is start.planned), None)
        if same is not None:
            planned.append(replace(same, start=start))
            continue
        comparison = compare(contrast, _configs_of(start, state), start.header)
        members = frozenset(
            canonical_json([config.config, start.planned.get(config.trials[0].trial)]) for config in comparison.configs
        )
        planned.append(_Planned(start, comparison, members))
    return planned


def _configs_of(start: DriverStart, state: SweepState) -> list[ConfigTrials]:
    return trial_results.group_configs(state.trials[trial] for trial in start.planned if trial in state.trials)


def _variants(planned: Sequence[_Planned]) -> list[list[_Planned]]:
    """Starts by variant, that of the latest one last. Two starts are of one where they share a config with its budget.

    A start without a config, as one that was stopped before the first proposal, belongs to the variant before it.
    """
    groups: list[tuple[set[str], list[_Planned]]] = []
    for start in planned:
        group = next((group for group in groups if group[0] & start.members), None)
        if group is None and groups and not (start.members and groups[-1][0]):
            group = groups[-1]
        if group is None:
            group = (set(), [])
        else:
            groups.remove(group)
        group[0].update(start.members)
        group[1].append(start)
        groups.append(group)
    return [starts for _, starts in groups]


def _seen(planned: Sequence[_Planned], state: SweepState) -> set[int]:
    """The seeds of which a complete pair had ended when the contrast was declared."""
    if not planned:
        return set()
    declared_at, seen = planned[0].start.at, set[int]()
    for plan in planned:
        for one, other in plan.comparison.pairs:
            seen |= _ended_before(one.candidates, declared_at) & _ended_before(other.candidates, declared_at)
    return seen


def _ended_before(configs: Iterable[ConfigTrials], at: float) -> set[int]:
    return {trial.seed for config in configs for trial in config.trials if trial.ended and 0 < trial.ended_at <= at}


def _analyses(planned: _Planned, state: SweepState, seen: set[int]) -> list[Analysis]:
    """The analyses that a start planned: of the seeds of all configs, and of the leaders' confirming seeds."""
    header, start = planned.start.header, planned.start
    closed = _nothing_to_propose(planned, state)
    seed_sets = [tuple(sorted(set(header.seeds) - seen))]
    confirm = tuple(sorted(set(header.confirm.get("seeds", ())) - seen))
    if confirm and all(set(confirm) <= _seeds(config) for config in planned.comparison.configs):
        seed_sets.append(confirm)
    analyses = []
    for seeds in seed_sets:
        if len(seeds) < FEWEST_SEEDS or not planned.comparison.terms:
            continue
        last = _last_end(planned.comparison, seeds) if closed else None
        analyses.append(Analysis(seeds, planned.comparison, None if last is None else max(start.at, last)))
    return analyses


def _nothing_to_propose(planned: _Planned, state: SweepState) -> bool:
    """Whether all configs of the comparison are there: none can join it, or the plan is complete."""
    header, trials = planned.start.header, planned.start.planned
    if names_whole_space(planned.comparison.contrast, header) or 0 < header.expected_trials <= len(trials):
        return True
    return any(start.finished for start in state.starts if start.planned is trials)


def _seeds(config: ConfigTrials) -> set[int]:
    return {trial.seed for trial in config.trials}


def _last_end(comparison: Comparison, seeds: Sequence[int]) -> float | None:
    """When the last trial of a comparison ended; None where one has not, or is not there yet."""
    ends = []
    for config in comparison.configs:
        trials = {trial.seed: trial for trial in config.trials}
        if any(seed not in trials or not trials[seed].ended for seed in seeds):
            return None
        ends += [trials[seed].ended_at for seed in seeds]
    return max(ends)
