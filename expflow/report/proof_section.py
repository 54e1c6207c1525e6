"""The proof of a search: its child beside what it has to beat, all trained anew by one recipe with new seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.intervals import Estimate, metric_estimate
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.ledger.trial_values import counted_value
from expflow.metrics import metric_value
from expflow.report import formatting
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.report.proof_checklist import ChecklistItem, checklist, searched_by
from expflow.report.rank_correlation import RankCorrelation, spearman
from expflow.report.statistics import paired_test
from expflow.report.text_table import TableColumn, TextTable
from expflow.search.arms import network_of
from expflow.search.specs import ARMS, BY_HAND, ENOUGH_SEARCHES, RANDOM_CHILDREN, RANDOM_SEARCH, SEARCH


@dataclass(frozen=True)
class ArmChild:
    """A child of an arm.

    Attributes:
        source: The search that it is of; empty for one that was made by hand.
        label: It in words.
        config: Config id; empty where it was not trained.
        score: What the search measured of it; None where none did.
        value: Mean over the new seeds; None where no seed is done.
        seeds: The new seeds that are done, with their values.
        params: Number of parameters.
        macs: Multiply-adds of one sample.
    """

    source: str
    label: str
    config: str
    score: float | None
    value: float | None
    seeds: Mapping[int, float]
    params: float | None
    macs: float | None


@dataclass(frozen=True)
class Arm:
    """What one side of the proof came to.

    Attributes:
        name: Its name.
        children: Its children.
        value: Mean and interval: over seeds where it has one child, else over its children.
        over: What the interval is over: ``seeds``, ``searches`` or ``children``.
    """

    name: str
    children: tuple[ArmChild, ...]
    value: Estimate | None
    over: str


@dataclass(frozen=True)
class ArmDifference:
    """The search's arm less another.

    Attributes:
        against: The other arm.
        difference: Mean and 95 % interval, such that more is better for the search; None where no pair is complete.
        p: Of the two-sided paired t test; None where it cannot be made.
        sentence: It in words.
    """

    against: str
    difference: Estimate | None
    p: float | None
    sentence: str


@dataclass(frozen=True)
class ProofSection:
    """What a proof shows.

    Attributes:
        sentence: What may be said.
        searches: How many searches the search's arm has.
        arms: The arms.
        differences: The search's arm less each other one.
        correlation: Of the random children; None where there are fewer than 4.
        checklist: How the proof was made.
    """

    sentence: str
    searches: int
    arms: tuple[Arm, ...]
    differences: tuple[ArmDifference, ...]
    correlation: RankCorrelation | None
    checklist: tuple[ChecklistItem, ...]

    def table(self, metric: str) -> TextTable:
        """The arms as text.

        Args:
            metric: The metric that they are judged by.
        """
        titles = (("arm", "left"), ("child", "left"), (metric, "right"), ("interval", "left"), ("over", "left"))
        columns = [TableColumn(title, align) for title, align in titles]  # type: ignore[arg-type]
        columns += [TableColumn("parameters"), TableColumn("multiply-adds")]
        return TextTable(tuple(columns), tuple(_row(arm, metric) for arm in self.arms))


def _row(arm: Arm, metric: str) -> tuple[str, ...]:
    one = arm.children[0] if len(arm.children) == 1 else None
    counts = [[getattr(child, size) for child in arm.children] for size in ("params", "macs")]
    sizes = [_mean_size([value for value in values if value is not None]) for values in counts]
    label = one.label if one is not None else f"{len(arm.children)} children"
    number = len(one.seeds) if one is not None else len(arm.children)
    value = metric_value(metric, arm.value.mean) if arm.value else "-"
    bounds = formatting.interval(metric, arm.value) if arm.value else ""
    return (arm.name, label, value, bounds, f"{number} {arm.over}", *sizes)


def _mean_size(values: Sequence[float]) -> str:
    return formatting.count(sum(values) / len(values)) if values else "-"


def proof_section(state: SweepState, board: Leaderboard, header: Header) -> ProofSection | None:
    """The proof of a sweep that has arms.

    Args:
        state: What the ledger adds up to.
        board: The leaderboard.
        header: The sweep's header.

    Returns:
        None for any other sweep.
    """
    if not header.arms:
        return None
    rows = {network_of(row.values): row for row in board.rows}
    by_name: dict[str, list[ArmChild]] = {}
    for child in header.arms["children"]:
        by_name.setdefault(child["arm"], []).append(_child(child, rows.get(network_of(child["values"])), header))
    arms = tuple(_arm(name, by_name[name], header) for name in ARMS if name in by_name)
    search = next(arm for arm in arms if arm.name == SEARCH)
    differences = tuple(_difference(search, arm, header) for arm in arms if arm is not search)
    return ProofSection(
        _sentence(search, differences, header),
        len(search.children),
        arms,
        differences,
        _correlation(next((arm.children for arm in arms if arm.name == RANDOM_CHILDREN), ())),
        tuple(checklist(header, state)),
    )


def _child(child: Mapping[str, Any], row: LeaderboardRow | None, header: Header) -> ArmChild:
    trials = row.trials if row is not None else ()
    values = {
        trial.seed: value for trial in trials if (value := counted_value(trial, header.metric, header)) is not None
    }
    return ArmChild(
        str(child["source"]),
        formatting.config_label(child["values"]),
        row.config if row is not None else "",
        child["score"],
        sum(values.values()) / len(values) if values else None,
        values,
        row.params if row is not None else None,
        row.macs if row is not None else None,
    )


def _arm(name: str, children: list[ArmChild], header: Header) -> Arm:
    one = len(children) == 1
    values = list(children[0].seeds.values()) if one else [child.value for child in children if child.value is not None]
    over = "seeds" if one else "children" if name == RANDOM_CHILDREN else "searches"
    samples = header.measured_on(header.metric)
    return Arm(name, tuple(children), metric_estimate(header.metric, values, samples) if values else None, over)


def _difference(search: Arm, other: Arm, header: Header) -> ArmDifference:
    """Over seeds for one search, whose arm and the other's were trained with the same ones; else over searches."""
    of, against, over = _pairs(search, other)
    if not of:
        return ArmDifference(other.name, None, None, f"Nothing can be said beside {_in_words(other)} yet.")
    sign = 1.0 if header.mode == "max" else -1.0
    test = paired_test([sign * value for value in of], [sign * value for value in against])
    size = formatting.difference_value(header.metric, test.difference.mean)
    bounds = formatting.interval(header.metric, test.difference, difference=True)
    p = f", p = {test.p:.3g}" if test.p is not None else ""
    sentence = f"Beside {_in_words(other)}: {size} {bounds}".rstrip() + f" over {len(of)} {over}{p}."
    low, high = test.difference.low, test.difference.high
    if len(of) > 2 and low is not None and high is not None and low <= 0 <= high:
        sentence += " That is not resolved."
    return ArmDifference(other.name, test.difference, test.p, sentence)


def _pairs(search: Arm, other: Arm) -> tuple[list[float], list[float], str]:
    if len(search.children) == 1:
        seeds = set(search.children[0].seeds).intersection(*(child.seeds for child in other.children))
        ordered = sorted(seeds)
        means = [sum(child.seeds[seed] for child in other.children) / len(other.children) for seed in ordered]
        return [search.children[0].seeds[seed] for seed in ordered], means, "new seeds"
    chosen = [child.value for child in search.children]
    values = [child.value for child in other.children]
    if other.name == RANDOM_SEARCH and len(values) == len(chosen):
        pairs = [(one, two) for one, two in zip(chosen, values, strict=True) if one is not None and two is not None]
        return [one for one, _ in pairs], [two for _, two in pairs], "pairs of searches"
    known = [value for value in values if value is not None]
    trained = [value for value in chosen if value is not None]
    return trained, [sum(known) / len(known)] * len(trained) if known else [], "searches"


def _in_words(arm: Arm) -> str:
    if arm.name == RANDOM_CHILDREN:
        return f"the mean of {len(arm.children)} random children"
    if arm.name == BY_HAND:
        return "the net made by hand"
    many = f" of {len(arm.children)} random searches" if len(arm.children) > 1 else " of random search"
    return f"the {'children' if len(arm.children) > 1 else 'child'}{many}"


def _sentence(search: Arm, differences: Sequence[ArmDifference], header: Header) -> str:
    facts = [header.arms["sources"][child.source] for child in search.children]
    most = max(one["configs"] for one in facts)
    how = formatting.and_join(dict.fromkeys(searched_by(one, most) for one in facts))
    count = len(search.children)
    if search.value is None:
        return f"The child of the search ({how}) has not been trained yet."
    value = metric_value(header.metric, search.value.mean)
    bounds = formatting.interval(header.metric, search.value)
    if count == 1:
        seeds = formatting.plural(len(search.children[0].seeds), "new seed")
        text = f"This search ({how}, n = 1) found a child with {header.metric} {value} {bounds}".rstrip()
        text = f"{text} over {seeds}."
    else:
        text = f"{count} searches ({how} each) found children with {header.metric} {value} {bounds}."
    text = " ".join([text, *(difference.sentence for difference in differences)])
    if count < ENOUGH_SEARCHES:
        about = "this search" if count == 1 else "these searches"
        text += f" That is about {about}: a statement about the searcher takes at least {ENOUGH_SEARCHES} searches"
        text += " with seeds of their own."
    return text


def _correlation(children: Sequence[ArmChild]) -> RankCorrelation | None:
    """Of the random children alone: the best and random ones mixed would inflate it."""
    known = [(child.score, child.value) for child in children if child.score is not None and child.value is not None]
    return spearman([score for score, _ in known], [value for _, value in known])
