"""Results of different sweeps, configs or trials side by side: recipes, metrics, differences, costs.

Nothing of this was declared beforehand, so it is exploratory: differences with intervals and corrected p values, and no
sentence that says which is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy.special import stdtr

from expflow.config.identity import recipe_from_identity
from expflow.errors import AddressUnknown
from expflow.intervals import Estimate, deviation, estimate, metric_estimate, t_quantile
from expflow.ledger.state import TrialState
from expflow.ledger.trial_values import counted_value, last
from expflow.metrics import metric_value, number
from expflow.report import formatting, trial_results
from expflow.report.leaderboard import selected_row
from expflow.report.statistics import holm, paired_test
from expflow.report.text_table import TableColumn, TextTable
from expflow.sweep.kept_code import code_differences, kept_modules, start_of
from expflow.sweep.result_location import ResultLocation


@dataclass(frozen=True)
class ComparedResult:
    """One of the results that are compared.

    Attributes:
        address: As it was asked for.
        name: Name of its results.
        config: Config id.
        label: Its searched values in words.
        data: Key of the data that it was trained on.
        seeds: The seeds that are at their full budget.
        lost: How many of its trials failed or diverged.
        metrics: Metric -> its mean over the seeds with its interval.
        params: Number of parameters; None where that was not reported.
        macs: Multiply-adds of one sample; None likewise.
        seconds: Mean training time; None likewise.
    """

    address: str
    name: str
    config: str
    label: str
    data: str
    seeds: tuple[int, ...]
    lost: int
    metrics: Mapping[str, Estimate]
    params: float | None
    macs: float | None
    seconds: float | None


@dataclass(frozen=True)
class ResultDifference:
    """One result less the first one, in the metric that the first sweep is judged by.

    Attributes:
        address: The result.
        against: The first one.
        metric: The metric.
        paired: Whether it is over common seeds on the same data.
        why_not: Why it is not paired; empty where it is.
        n: Number of pairs, or of seeds on the smaller side.
        difference: The mean difference.
        low: Lower end of its 95 % interval; None with fewer than two seeds.
        high: Upper end of it.
        effect: The difference in standard deviations; None where there is no spread.
        p: Probability of the t test (paired, or Welch's); None where it cannot be made.
        p_holm: The same, corrected for the number of results.
    """

    address: str
    against: str
    metric: str
    paired: bool
    why_not: str
    n: int
    difference: float
    low: float | None
    high: float | None
    effect: float | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class ComparisonDocument:
    """Results side by side.

    Attributes:
        document: Which document this is.
        version: Its version.
        metric: What the first sweep is judged by.
        results: The results, in the order in which they were asked for.
        differences: Each but the first one, less the first one.
        recipes: Dotted key of the recipe -> its value in each result, of the keys in which they differ.
        code: Module of the user's -> its sha256 in each result, and package -> its version, where they differ.
        sources: Module of the user's that differs -> for each result the unified difference from the first one; empty
            where it is the same, or was not kept.
        notes: What a reader must know.
        page: The page that was written; empty where none was.
    """

    document: Literal["comparison"]
    version: Literal[1]
    metric: str
    results: tuple[ComparedResult, ...]
    differences: tuple[ResultDifference, ...]
    recipes: Mapping[str, tuple[Any, ...]]
    code: Mapping[str, tuple[Any, ...]]
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    page: str = ""


@dataclass(frozen=True)
class _Side:
    result: ComparedResult
    trials: Mapping[int, TrialState]
    values: Mapping[int, float]
    """Seed -> the metric."""
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class AddressedResult:
    """One of the results that are to be compared.

    Attributes:
        address: As it was asked for: ``NAME`` and ``NAME/best`` are the selected config with all its seeds.
        location: Where it leads.
        config: Id of the config that is meant; empty where the location says it.
    """

    address: str
    location: ResultLocation
    config: str = ""


def compare_results(asked: Sequence[AddressedResult]) -> ComparisonDocument:
    """Compare results.

    Args:
        asked: Two results or more; differences are to the first.

    Raises:
        AddressUnknown: One of them has no finished trial.
    """
    metric = trial_results.header_of(asked[0].location.state).metric
    sides = [_side(one, metric) for one in asked]
    differences = [_difference(side, sides[0], metric) for side in sides[1:]]
    adjusted = holm([difference.p for difference in differences])
    return ComparisonDocument(
        "comparison",
        1,
        metric,
        tuple(side.result for side in sides),
        tuple(replace(difference, p_holm=p) for difference, p in zip(differences, adjusted, strict=True)),
        _differing([side.recipe for side in sides]),
        _differing([_code(one) for one in asked]),
        code_differences([kept_modules(one.location.folder, one.location.state, _trials(one)) for one in asked]),
        tuple(_notes(sides, differences, metric)),
    )


def _trials(asked: AddressedResult) -> list[TrialState]:
    location = asked.location
    if not asked.config and location.which not in (None, "best"):
        return [location.trial()]
    row = None if asked.config else selected_row(location.state)
    if row is None and not asked.config:
        raise AddressUnknown(f"{location.name} has no trial at full budget yet, hence no selected config")
    config = asked.config or (row.config if row is not None else "")
    return [trial for trial in location.state.plan_trials() if trial.config == config]


def _side(asked: AddressedResult, metric: str) -> _Side:
    address, location = asked.address, asked.location
    header, trials = trial_results.header_of(location.state), _trials(asked)
    done = {trial.seed: trial for trial in trials if trial.status == "done"}
    if not done:
        raise AddressUnknown(f"{address} has no trial at full budget yet")
    known = {seed: counted_value(trial, metric, header) for seed, trial in done.items()}
    first = trials[0]
    names = dict.fromkeys(name for trial in done.values() for name in trial.metrics)
    result = ComparedResult(
        address,
        location.name,
        first.config,
        formatting.config_label(first.values),
        str(header.data.get("key", "")),
        tuple(sorted(done)),
        sum(trial.status == "failed" for trial in trials),
        {name: over for name in names if (over := _estimate(list(done.values()), name, location)) is not None},
        _mean([trial_results.cost(trial, "cost/params") for trial in done.values()]),
        _mean([trial_results.cost(trial, "cost/macs") for trial in done.values()]),
        _mean([trial_results.cost(trial, "cost/seconds") or trial.seconds for trial in done.values()]),
    )
    values = {seed: value for seed, value in known.items() if value is not None}
    return _Side(result, done, values, _flat(recipe_from_identity(first.recipe, first.budget)))


def _estimate(trials: Sequence[TrialState], metric: str, location: ResultLocation) -> Estimate | None:
    if metric.startswith(("cost/", "progress/")):
        return None
    values = [value for trial in trials if (value := last(trial, metric)) is not None]
    header = trial_results.header_of(location.state)
    return metric_estimate(metric, values, header.measured_on(metric), header.overlap) if values else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _flat(tree: Any, key: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping) and tree:
        parts: dict[str, Any] = {}
        for name, value in tree.items():
            parts |= _flat(value, f"{key}.{name}" if key else str(name))
        return parts
    return {key: tree}


def _code(asked: AddressedResult) -> dict[str, str]:
    """What a result was made with: the user's modules, and versions of packages."""
    state = asked.location.state
    header = start_of(state, max(_trials(asked), key=lambda trial: trial.started_at))
    return {**header.code, **header.versions} if header is not None else {}


def _differing(facts: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Key -> its value in each result, of the keys in which they differ."""
    keys = dict.fromkeys(key for known in facts for key in known)
    rows = {key: tuple(known.get(key) for known in facts) for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _difference(side: _Side, first: _Side, metric: str) -> ResultDifference:
    common = sorted(side.values.keys() & first.values.keys())
    why_not = ""
    if side.result.data != first.result.data:
        why_not = "they were trained on different data"
    elif len(common) < 2:
        why_not = f"{formatting.plural(len(common), 'common seed')} of {len(side.values)} and {len(first.values)}"
    if not why_not:
        return _paired(side, first, common, metric)
    return _welch(side, first, metric, why_not)


def _paired(side: _Side, first: _Side, common: Sequence[int], metric: str) -> ResultDifference:
    test = paired_test([side.values[seed] for seed in common], [first.values[seed] for seed in common])
    over = estimate([side.values[seed] - first.values[seed] for seed in common])
    low, high = (over.low, over.high) if over.kind == "t" else (None, None)
    return ResultDifference(
        side.result.address,
        first.result.address,
        metric,
        True,
        "",
        len(common),
        over.mean,
        low,
        high,
        test.effect,
        test.p,
    )


def _welch(side: _Side, first: _Side, metric: str, why_not: str) -> ResultDifference:
    """B. L. Welch's test of two means with unequal variances, 1947."""
    groups = [list(side.values.values()), list(first.values.values())]
    if not all(groups):
        raise AddressUnknown(f"{side.result.address} and {first.result.address} have no {metric} in common")
    means = [math.fsum(group) / len(group) for group in groups]
    difference, fewest = means[0] - means[1], min(map(len, groups))
    nothing = ResultDifference(
        side.result.address, first.result.address, metric, False, why_not, fewest, difference, None, None, None, None
    )
    if fewest < 2:
        return nothing
    shares = [deviation(group) ** 2 / len(group) for group in groups]
    if not sum(shares):
        return nothing
    freedom = sum(shares) ** 2 / sum(share**2 / (len(group) - 1) for share, group in zip(shares, groups, strict=True))
    error = math.sqrt(sum(shares))
    half = t_quantile(0.975, freedom) * error
    pooled = math.sqrt(sum(deviation(group) ** 2 for group in groups) / 2)
    return replace(
        nothing,
        low=difference - half,
        high=difference + half,
        effect=difference / pooled,
        p=min(1.0, 2 * float(stdtr(freedom, -abs(difference) / error))),
    )


def _notes(sides: Sequence[_Side], differences: Sequence[ResultDifference], metric: str) -> list[str]:
    notes = [
        "Nothing of this was declared beforehand: it is exploratory. p values are of two-sided t tests against the "
        f"first result, Holm-corrected for {formatting.plural(len(differences), 'comparison')}."
    ]
    notes += [f"{row.address}: not paired with {row.against}: {row.why_not}." for row in differences if row.why_not]
    selected = [side.result.address for side in sides if "/" not in side.result.address or _is_best(side)]
    if selected:
        notes.append(f"Selected among configs, hence optimistic: {', '.join(selected)}.")
    lost = [f"{side.result.address} {side.result.lost}" for side in sides if side.result.lost]
    if lost:
        notes.append(f"Trials that failed or diverged, which are in no mean: {', '.join(lost)}.")
    if any(metric not in side.result.metrics for side in sides):
        notes.append(f"Not every result has {metric}.")
    return notes


def _is_best(side: _Side) -> bool:
    return side.result.address.endswith("/best")


def comparison_table(comparison: ComparisonDocument) -> TextTable:
    """Results as rows: metrics with their intervals, differences to the first, costs.

    Args:
        comparison: The comparison.
    """
    metrics = [comparison.metric, *_other_metrics(comparison)]
    columns = [TableColumn("result", "left"), TableColumn("config", "left"), TableColumn("n")]
    columns += [TableColumn(metric) for metric in metrics]
    columns += [TableColumn(title) for title in ("difference", "p (Holm)", "effect")]
    columns += [TableColumn(title) for title in ("parameters", "multiply-adds", "time")]
    of = {row.address: row for row in comparison.differences}
    return TextTable(
        tuple(columns), tuple(_row(result, of.get(result.address), metrics) for result in comparison.results)
    )


def _other_metrics(comparison: ComparisonDocument) -> list[str]:
    common = set.intersection(*(set(result.metrics) for result in comparison.results))
    return sorted(common - {comparison.metric})


def _row(result: ComparedResult, difference: ResultDifference | None, metrics: Sequence[str]) -> tuple[str, ...]:
    cells = [result.address, result.label, str(len(result.seeds))]
    for metric in metrics:
        over = result.metrics.get(metric)
        words = (metric_value(metric, over.mean), formatting.interval(metric, over)) if over else ("-",)
        cells.append(" ".join(filter(None, words)))
    cells += _difference_cells(difference)
    cells.append("-" if result.params is None else formatting.count(result.params))
    cells.append("-" if result.macs is None else formatting.count(result.macs))
    cells.append("-" if result.seconds is None else formatting.duration(result.seconds))
    return tuple(cells)


def _difference_cells(row: ResultDifference | None) -> list[str]:
    if row is None:
        return ["", "", ""]
    text = formatting.difference_value(row.metric, row.difference)
    if row.low is not None and row.high is not None:
        low, high = (formatting.difference_value(row.metric, end, unit=False) for end in (row.low, row.high))
        text += f" [{low}, {high}]"
    p = "" if row.p_holm is None else formatting.p_value(row.p_holm).removeprefix("= ")
    return [text, p, "" if row.effect is None else number(row.effect)]


def difference_table(comparison: ComparisonDocument) -> TextTable:
    """The keys in which the recipes differ, then modules and packages, a column for each result.

    Args:
        comparison: The comparison.
    """
    columns = (TableColumn("key", "left"), *(TableColumn(result.address, "left") for result in comparison.results))
    differing = {**comparison.recipes, **comparison.code}
    rows = ((key, *("-" if value is None else str(value) for value in values)) for key, values in differing.items())
    return TextTable(columns, tuple(rows))
