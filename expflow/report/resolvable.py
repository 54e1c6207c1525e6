"""Before a sweep is paid for: the smallest differences that its planned seeds can resolve."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.special import gammaincinv

from expflow.config.identity import dump
from expflow.intervals import deviation
from expflow.ledger import Header, SweepState, load_state, read
from expflow.ledger.header import split_overlap
from expflow.ledger.trial_values import counted_value
from expflow.metrics import is_share
from expflow.report import formatting, trial_results
from expflow.report.sequential import level_share, resolvable_effect
from expflow.report.statistics import ALPHA
from expflow.sweep.data_preparation import prepared_data
from expflow.sweep.plan import Plan
from expflow.sweep.plan_identity import own_data_key
from expflow.sweep.result_location import result_folders

_MOST_NAMES = 3


@dataclass(frozen=True)
class SeedSpread:
    """How far the seeds of one config lie apart, from earlier results.

    Attributes:
        deviation: The standard deviation over seeds, the median over configs.
        configs: Of how many configs.
        names: The results that they are of.
    """

    deviation: float
    configs: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class ResolvableDifference:
    """The smallest difference of a metric that planned seeds resolve at the first look, with power 0.8.

    Attributes:
        metric: The metric.
        seeds: Number of planned seeds.
        contrasts: Number of declared contrasts.
        effect: The difference in standard deviations of the paired differences; None with fewer than two seeds.
        difference: The same in the metric's own unit (shares: 0 to 1), from the seeds of earlier results on the same
            data; None where there are none.
        configs: Of how many configs those seeds are.
        results: The names of those results.
    """

    metric: str
    seeds: int
    contrasts: int
    effect: float | None
    difference: float | None
    configs: int
    results: tuple[str, ...]


def resolvable_differences(plan: Plan) -> list[ResolvableDifference]:
    """What the planned seeds can resolve, for each metric of a declared contrast.

    Args:
        plan: The plan, with its data prepared.
    """
    contrasts, confirm = plan.loaded.experiment.report.contrasts, plan.sweep.confirm
    if not contrasts:
        return []
    count, seeds = len(contrasts), max(len(plan.sweep.seeds), len(confirm.seeds) if confirm else 0)
    recipe = plan.loaded.experiment.recipe
    data = prepared_data(plan, recipe)
    overlap = split_overlap(dump(recipe), data.spec.samples) if data is not None else 0.0
    effect = resolvable_effect(seeds, ALPHA * level_share(1) / count, overlap)
    key = data.key if data is not None else own_data_key(recipe)
    metrics = tuple(dict.fromkeys(contrast.metric for contrast in contrasts))
    spreads = seed_spreads(plan.storage, key, metrics) if effect is not None else {}
    rows = []
    for metric in metrics:
        spread = spreads.get(metric)
        size = math.sqrt(2) * spread.deviation * effect if spread is not None and effect is not None else None
        configs, names = (spread.configs, spread.names) if spread is not None else (0, ())
        rows.append(ResolvableDifference(metric, seeds, count, effect, size, configs, names))
    return rows


def resolvable_lines(plan: Plan) -> Iterator[str]:
    """:func:`resolvable_differences` in words, a line for each metric; nothing without contrasts.

    Args:
        plan: The plan, with its data prepared.
    """
    for row in resolvable_differences(plan):
        seeds = formatting.plural(row.seeds, "seed")
        if row.effect is None:
            yield f"{seeds} can resolve no contrast: at least two are needed, five are advised"
            return
        asked = "the one contrast" if row.contrasts == 1 else f"{row.contrasts} contrasts"
        words = f"{seeds} and {asked}: at the first look a difference is resolved (power 0.8)"
        if row.difference is None:
            yield (
                f"{words} from {row.effect:.2g} standard deviations of the paired differences of {row.metric} on; no "
                "earlier results on these data say how large that is"
            )
            continue
        if is_share(row.metric) and row.difference >= 1:
            yield (
                f"{seeds} and {asked} can resolve no difference of {row.metric}: it would have to be {row.effect:.2g} "
                "standard deviations, more than there is between 0 and 100 %; five seeds are advised"
            )
            continue
        names = ", ".join(row.results[:_MOST_NAMES]) + (", …" if len(row.results) > _MOST_NAMES else "")
        size = formatting.difference_value(row.metric, row.difference).lstrip("+")
        yield (
            f"{words} from about {size} of {row.metric} on: {row.effect:.2g} standard deviations of a difference, from "
            f"{formatting.plural(row.configs, 'config')} of {names}"
        )


def seed_spreads(storage: Path, data_key: str, metrics: Sequence[str]) -> dict[str, SeedSpread]:
    """How far seeds lie apart in all earlier results on the same data.

    Args:
        storage: The folder of all results.
        data_key: Which data they were trained on.
        metrics: Reported names with their split.

    Returns:
        Metric -> spread; a metric of which no config has two finished seeds is left out.
    """
    spreads: dict[str, list[float]] = {metric: [] for metric in metrics}
    names: dict[str, list[str]] = {metric: [] for metric in metrics}
    for folder in result_folders(storage):
        if _data_key(folder) != data_key:
            continue
        state = load_state(folder)
        for metric in metrics:
            here = _spreads(state, metric)
            spreads[metric] += here
            names[metric] += [folder.name] * bool(here)
    return {
        metric: SeedSpread(statistics.median(values), len(values), tuple(names[metric]))
        for metric, values in spreads.items()
        if values
    }


def _data_key(folder: Path) -> str:
    first = next(iter(read(folder)), None)
    return str(first.body.data.get("key", "")) if first is not None and isinstance(first.body, Header) else ""


def _spreads(state: SweepState, metric: str) -> list[float]:
    """The deviation over the seeds of each config, corrected so that its median is the true one (normal seeds)."""
    spreads = []
    for config in trial_results.configs(state):
        values = [
            value
            for trial in config.trials
            if (value := counted_value(trial, metric, trial_results.header_of(state))) is not None
        ]
        if len(values) > 1:
            freedom = len(values) - 1
            spreads.append(deviation(values) / math.sqrt(2 * float(gammaincinv(freedom / 2, 0.5)) / freedom))
    return spreads
