"""How a proof of a search was made, item by item.

Source:
    Lindauer and Hutter 2020, "Best Practices for Scientific Research on Neural Architecture Search", JMLR 21; Yang et
    al. 2020, "NAS evaluation is frustratingly hard", section 6. The items are theirs in our words, as far as a ledger
    can answer them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from expflow.config.identity import canonical_json
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import formatting
from expflow.search.specs import BY_HAND, ENOUGH_SEARCHES, RANDOM_CHILDREN, RANDOM_SEARCH, SEARCH
from expflow.tasks.specs import ONE_SHOT

ENOUGH_SEEDS = 5
"""New seeds below which a child's value has no interval worth quoting."""
_SAME_COST = 1.1
"""Device-seconds that differ by at most this factor count as equal."""


@dataclass(frozen=True)
class ChecklistItem:
    """A question of the checklist.

    Attributes:
        item: What is asked.
        answer: ``yes``, ``no``, or ``not recorded``.
        evidence: What the record shows.
    """

    item: str
    answer: Literal["yes", "no", "not recorded"]
    evidence: str


def checklist(header: Header, state: SweepState) -> Iterator[ChecklistItem]:
    """The checklist, as the ledger answers it.

    Args:
        header: The proof's header.
        state: What its ledger adds up to.
    """
    search, rand = _sources(header, SEARCH), _sources(header, RANDOM_SEARCH)
    yield _choices_on_search_val([*search, *rand])
    yield _new_seeds(header, state, [*search, *rand])
    yield _item("Random search of equal children, by the same rule", bool(rand), _searchers(rand) or "there is none")
    if rand:
        yield _equal_cost(search, rand)
        yield _same_settings(search, rand)
    yield _average(header)
    by_hand = any(child["arm"] == BY_HAND for child in header.arms["children"])
    yield _item("A net that was made by hand", by_hand, "within the same limits" if by_hand else "there is none")
    yield _same_limits(header, [*search, *rand])
    yield _item(
        "One recipe and one code for all arms",
        True,
        f"one sweep trains them: {header.git.get('commit', '')[:12] or 'no commit'}, {_code(header)}",
    )
    yield _same_versions(header, [*search, *rand])
    yield _item(
        "Several searches, so that something is said of the searcher",
        len(search) >= ENOUGH_SEARCHES,
        f"{len(search)}; {ENOUGH_SEARCHES} are needed",
    )
    yield ChecklistItem(
        "Tuning the searcher counted as cost", "not recorded", "say what was tried before, and count it"
    )
    yield _cost(header, state, [*search, *rand])
    yield _tests(state)


def _item(item: str, yes: bool, evidence: str) -> ChecklistItem:
    return ChecklistItem(item, "yes" if yes else "no", evidence)


def _sources(header: Header, arm: str) -> list[Mapping[str, Any]]:
    names = dict.fromkeys(child["source"] for child in header.arms["children"] if child["arm"] == arm)
    return [header.arms["sources"][name] for name in names]


def searched_by(source: Mapping[str, Any], configs: int) -> str:
    """How a search went: ``controller, 200 configs``, or ``one-shot search`` where one supernet was all it trained.

    Args:
        source: What a proof's header holds of the search.
        configs: How many configs it tried.
    """
    if (source["recipe"].get("task") or {}).get("name") == ONE_SHOT:
        return "one-shot search"
    return f"{source['searcher']}, {formatting.plural(configs, 'config')}"


def _searchers(sources: Sequence[Mapping[str, Any]]) -> str:
    return formatting.and_join(searched_by(one, one["configs"]) for one in sources) if sources else ""


def _choices_on_search_val(sources: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    shares = [(one["recipe"].get("data") or {}).get("search_val") or 0.0 for one in sources]
    cut = all(shares) and all(one["metric"].startswith("val/") for one in sources)
    used = formatting.and_join(dict.fromkeys(f"{share:.0%}" for share in shares))
    evidence = (
        f"choices used {used} of train (data.search_val)"
        if cut
        else "a search chose on the val that is measured here: set data.search_val in it"
    )
    return _item("Val untouched by the search's choices", cut, evidence)


def _new_seeds(header: Header, state: SweepState, sources: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    seeds = {trial.seed for trial in state.plan_trials()}
    common = seeds.intersection(*[{seed for one in sources for seed in one["seeds"]}])
    words = f"{len(seeds)} seeds" + (f", of which the searches used {len(common)}" if common else ", none used before")
    return _item(f"At least {ENOUGH_SEEDS} new seeds", len(seeds) >= ENOUGH_SEEDS and not common, words)


def _equal_cost(search: Sequence[Mapping[str, Any]], rand: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    configs = [sum(one["configs"] for one in sources) / len(sources) for sources in (search, rand)]
    seconds = [sum(one["seconds"] for one in sources) / len(sources) for sources in (search, rand)]
    equal = configs[0] == configs[1] and max(seconds) <= _SAME_COST * min(seconds)
    words = f"{configs[0]:,.0f} and {configs[1]:,.0f} configs, {_long(seconds[0])} and {_long(seconds[1])} of training"
    return _item("Equal cost of the search and of random search", equal, words)


def _long(seconds: float) -> str:
    return formatting.duration(seconds)


def _same_settings(search: Sequence[Mapping[str, Any]], rand: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    differing = sorted(
        {
            part
            for one in search
            for other in rand
            for part in ("space", "limits", "recipe", "scheduler")
            if canonical_json(one[part]) != canonical_json(other[part])
        }
    )
    words = f"they differ in {formatting.and_join(differing)}" if differing else "space, limits, recipe and scheduler"
    return _item("Search and random search in the same space, by the same recipe", not differing, words)


def _average(header: Header) -> ChecklistItem:
    count = sum(child["arm"] == RANDOM_CHILDREN for child in header.arms["children"])
    words = f"{count} of the random search's children, drawn whatever they gave" if count else "there is none"
    return _item("The average of the space", count > 0, words)


def _same_limits(header: Header, sources: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    same = all(canonical_json(one["limits"]) == canonical_json(header.limits) for one in sources)
    words = ", ".join(f"{key} {value:,}" for key, value in header.limits.items()) or "none"
    return _item("All arms within the same limits", same, words if same else f"here {words}; a search had others")


def _same_versions(header: Header, sources: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    differing = sorted(
        {
            name
            for one in sources
            for name in {*one["versions"], *header.versions}
            if one["versions"].get(name) != header.versions.get(name)
        }
    )
    words = f"they differ in {formatting.and_join(differing)}" if differing else "all of them"
    return _item("Searches and proof by the same versions", not differing, words)


def _code(header: Header) -> str:
    return f"{len(header.code)} modules of the user's own" if header.code else "no modules of the user's own"


def _cost(header: Header, state: SweepState, sources: Sequence[Mapping[str, Any]]) -> ChecklistItem:
    searched = sum(one["seconds"] for one in sources)
    trained = sum(trial.seconds for trial in state.plan_trials())
    words = f"searches {_long(searched)}, proof {_long(trained)} of training, {header.devices:g} device(s) a trial"
    return _item("Cost stated", True, words)


def _tests(state: SweepState) -> ChecklistItem:
    count = sum(evaluation.split == "test" for evaluation in state.split_evaluations)
    words = {0: "none yet: expflow test NAME --config of the search's child", 1: "one"}.get(count, f"{count}")
    return _item("One evaluation on test", count == 1, words)
