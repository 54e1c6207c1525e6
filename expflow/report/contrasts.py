"""The declared contrasts, tested by the rules of inference (design section 11), and their answers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import results, words
from expflow.report.results import Config
from expflow.report.statistics import ALPHA, MOST_SEEDS, Estimate, PairedTest, estimate, holm, paired_test, seeds_needed

Verdict = Literal["as_expected", "opposite", "not_resolved"]

_VERDICT_WORDS = {
    "as_expected": "As expected.",
    "opposite": "This is the opposite of what was expected.",
    "not_resolved": "Not resolved.",
}


@dataclass(frozen=True)
class Answer:
    """What the sweep says to one declared contrast.

    ``of`` and ``against`` are the two sides' means over the ``n`` common seeds, ``difference`` their paired difference
    with its 95 % interval (not corrected), ``p`` the test's and ``p_holm`` the Holm-corrected probability. ``bound`` is
    the one-sided 95 % bound of a ``not_worse``. ``seeds_needed`` is only given where the answer is not resolved.
    ``sentence`` says all of it; ``notes`` what it leaves out.
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
    bound: float | None = None
    p: float | None = None
    p_holm: float | None = None
    seeds_needed: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pairs:
    """The two sides' values for each common seed, averaged over the configs that differ in nothing else."""

    of: tuple[float, ...]
    against: tuple[float, ...]
    averaged: int
    """How many pairs of configs each seed's value is averaged over."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Tested:
    contrast: Mapping[str, Any]
    pairs: _Pairs
    test: PairedTest | None
    """The test of `of - against` (for ``not_worse``: turned so that up is better); None without a pair."""
    turn: float
    """-1 where the test is of the turned difference."""


def answers(state: SweepState) -> list[Answer]:
    """One answer for each contrast that the experiment declares, in the file's order.

    Paired t tests over the seeds that both sides completed; p values Holm-corrected over all declared contrasts.
    """
    header = results.header_of(state)
    configs = results.configs(state)
    tested = [_tested(contrast, configs, header) for contrast in header.report.get("contrasts", ())]
    adjusted = holm([each.test.p if each.test else None for each in tested])
    searched = results.searched_keys(state)
    return [_answer(each, p, len(tested), header, searched) for each, p in zip(tested, adjusted, strict=True)]


def _tested(contrast: Mapping[str, Any], configs: Sequence[Config], header: Header) -> _Tested:
    pairs = _pairs(contrast, configs, header)
    not_worse = contrast["expect"] == "not_worse"
    better = words.direction(contrast["metric"], header)
    turn = -1.0 if not_worse and better == "min" else 1.0
    margin = contrast.get("margin") if not_worse else None
    if not pairs.of:
        return _Tested(contrast, pairs, None, turn)
    if not_worse and better is None:
        test = PairedTest(_difference(pairs), why=f"it is not known whether more of {contrast['metric']} is better")
    elif not_worse and margin is None:
        test = PairedTest(_difference(pairs), why="`not_worse` needs a declared `margin`")
    else:
        test = paired_test([turn * each for each in pairs.of], [turn * each for each in pairs.against], margin)
    return _Tested(contrast, pairs, test, turn)


def _difference(pairs: _Pairs) -> Estimate:
    return estimate([left - right for left, right in zip(pairs.of, pairs.against, strict=True)])


def _pairs(contrast: Mapping[str, Any], configs: Sequence[Config], header: Header) -> _Pairs:
    """Match configs that differ in the contrast's keys only, then keep the seeds that completed all of them.

    A seed that lacks one of the pairs is left out as a whole: averaging it over fewer configs than the others would
    mix the effect of the seed with that of the configs.
    """
    where = contrast.get("where") or {}
    named = {*contrast["of"], *contrast["against"]}
    of = _by_rest(configs, {**where, **contrast["of"]}, named, header)
    against = _by_rest(configs, {**where, **contrast["against"]}, named, header)
    common = [rest for rest in of if rest in against]
    if not common:
        return _Pairs((), (), 0, ())
    metric = contrast["metric"]
    sides = [[_by_seed(side[rest], metric, header) for rest in common] for side in (of, against)]
    every = [seeds for side in sides for seeds in side]
    complete = sorted(set.intersection(*(set(seeds) for seeds in every)))
    notes = _left_out([side[rest] for side in (of, against) for rest in common], complete, metric, header)
    means = [tuple(sum(each[seed] for each in side) / len(side) for seed in complete) for side in sides]
    return _Pairs(means[0], means[1], len(common), notes)


def sides(contrast: Mapping[str, Any], state: SweepState) -> list[tuple[Config, Config]]:
    """The pairs of configs that ``contrast`` compares: they differ in nothing else than it says."""
    header, configs = results.header_of(state), results.configs(state)
    where, named = contrast.get("where") or {}, {*contrast["of"], *contrast["against"]}
    of = _by_rest(configs, {**where, **contrast["of"]}, named, header)
    against = _by_rest(configs, {**where, **contrast["against"]}, named, header)
    return [(of[rest], against[rest]) for rest in of if rest in against]


def _by_rest(
    configs: Sequence[Config], wanted: Mapping[str, Any], named: set[str], header: Header
) -> dict[str, Config]:
    """Matching configs by their values of the keys that the contrast does not name."""
    found: dict[str, Config] = {}
    for config in configs:
        if results.chosen(config, wanted, header):
            rest = {key: value for key, value in config.values.items() if not _about(key, named)}
            found.setdefault(repr(sorted(rest.items(), key=lambda item: item[0])), config)
    return found


def _about(key: str, named: set[str]) -> bool:
    """Whether searched ``key`` is one that the contrast names, or holds one (``model`` holds ``model.depth``)."""
    return any(name == key or name.startswith(key + ".") for name in named)


def _by_seed(config: Config, metric: str, header: Header) -> dict[int, float]:
    values = ((trial.seed, results.value(trial, metric, header)) for trial in config.trials)
    return {seed: value for seed, value in values if value is not None}


def _left_out(configs: Sequence[Config], complete: Sequence[int], metric: str, header: Header) -> tuple[str, ...]:
    """Which seeds the pairs lack, and why."""
    said: dict[str, None] = {}
    for config in configs:
        for trial in config.trials:
            if trial.seed in complete or results.value(trial, metric, header) is not None:
                continue
            failed = results.failure(trial, metric, header)
            waiting = {"stopped": "was stopped early", "running": "is still running"}.get(trial.status, "is to come")
            what = f"{failed.kind}: {failed.reason}" if failed else waiting
            said[f"seed {trial.seed} left out: {config.label} {what}"] = None
    return tuple(said)


def _answer(tested: _Tested, p_holm: float | None, declared: int, header: Header, searched: Sequence[str]) -> Answer:
    contrast, pairs, test = tested.contrast, tested.pairs, tested.test
    verdict = _verdict(tested, p_holm)
    needed = _needed(tested, declared) if verdict == "not_resolved" else None
    difference = _difference(pairs) if pairs.of else None
    bound = tested.turn * test.bound if test and test.bound is not None and contrast["expect"] == "not_worse" else None
    answer = Answer(
        claim=claim(contrast),
        metric=contrast["metric"],
        expect=contrast["expect"],
        verdict=verdict,
        sentence="",
        n=len(pairs.of),
        of=estimate(pairs.of) if pairs.of else None,
        against=estimate(pairs.against) if pairs.of else None,
        difference=difference,
        bound=bound,
        p=test.p if test else None,
        p_holm=p_holm,
        seeds_needed=needed,
        notes=pairs.notes,
    )
    sentence = _sentence(answer, tested, header, searched)
    return Answer(**{**answer.__dict__, "sentence": sentence})


def _verdict(tested: _Tested, p_holm: float | None) -> Verdict:
    if tested.test is None or p_holm is None or p_holm >= ALPHA:
        return "not_resolved"
    expect = tested.contrast["expect"]
    if expect == "not_worse":
        return "as_expected"
    return "as_expected" if (tested.test.difference.mean > 0) == (expect == "higher") else "opposite"


def _needed(tested: _Tested, declared: int) -> int | None:
    """Seeds that would resolve the observed effect with power 0.8, at the strictest level that Holm may ask for."""
    test = tested.test
    if test is None or test.effect is None:
        return None
    needed = seeds_needed(test.effect, ALPHA / declared, one_sided=tested.contrast["expect"] == "not_worse")
    return None if needed is None else max(needed, test.difference.n + 1)


def claim(contrast: Mapping[str, Any]) -> str:
    """The contrast as it was declared: ``fit/loss: depth=56 higher than depth=20 where shortcut=none``."""
    expect = {"higher": "higher than", "lower": "lower than", "not_worse": "not worse than"}[contrast["expect"]]
    of, against = words.config_label(contrast["of"]), words.config_label(contrast["against"])
    margin = contrast.get("margin")
    within = "" if margin is None else f" (margin {words.difference_value(contrast['metric'], margin).lstrip('+')})"
    return f"{contrast['metric']}: {of} {expect} {against}{_where(contrast)}{within}"


def _where(contrast: Mapping[str, Any]) -> str:
    where = contrast.get("where")
    return f" where {words.config_label(where)}" if where else ""


def _sentence(answer: Answer, tested: _Tested, header: Header, searched: Sequence[str]) -> str:
    """The answer in words: recipe and budget first (rule 7), then what was found, then how sure that is."""
    contrast = tested.contrast
    of, against = words.config_label(contrast["of"]), words.config_label(contrast["against"])
    best_epoch = answer.metric == header.metric and header.select == "best_epoch"
    subject = f"{answer.metric}{' (best epoch)' if best_epoch else ''} of {of}"
    if answer.difference is None:
        reason = "; ".join(answer.notes) or "no two configs that were tried differ in this alone"
        return f"{subject} against {against}{_where(contrast)} is not resolved: no common seed ({reason})."
    words_of_recipe = [part for part in (words.recipe_words(header, searched),) if part]
    given = "With " + ", ".join([*words_of_recipe, f"n = {words.plural(answer.n, 'seed')}"])
    if tested.pairs.averaged > 1:
        given += f", averaged over {tested.pairs.averaged} pairs of configs"
    found = _found(answer, contrast, against)
    return f"{given}: {subject} {found}: {_numbers(answer)}. {_conclusion(answer, tested)}"


def _found(answer: Answer, contrast: Mapping[str, Any], against: str) -> str:
    if answer.verdict == "not_resolved":
        return f"and of {against}{_where(contrast)}"
    if answer.expect == "not_worse":
        margin = words.difference_value(answer.metric, contrast["margin"]).lstrip("+")
        return f"is not worse than that of {against}{_where(contrast)} by {margin} or more"
    higher = answer.difference is not None and answer.difference.mean > 0
    return f"is {'higher' if higher else 'lower'} than that of {against}{_where(contrast)}"


def _numbers(answer: Answer) -> str:
    if answer.of is None or answer.against is None or answer.difference is None:
        return ""
    metric, difference = answer.metric, answer.difference
    parts = [
        f"{words.metric_value(metric, answer.of.mean)} vs {words.metric_value(metric, answer.against.mean)}",
        f"difference {words.difference_value(metric, difference.mean)} "
        f"{words.interval(metric, difference, difference=True)}".rstrip(),
    ]
    if answer.bound is not None:
        parts.append(f"one-sided 95 % bound {words.difference_value(metric, answer.bound)}")
    if answer.p_holm is not None:
        parts.append(f"p (Holm) {words.p_value(answer.p_holm)}")
    return ", ".join(parts)


def _conclusion(answer: Answer, tested: _Tested) -> str:
    text = _VERDICT_WORDS[answer.verdict]
    if answer.verdict != "not_resolved":
        return text
    test = tested.test
    if test is not None and test.why:
        return f"{text} Here {test.why}." if test.p is None else text
    if answer.seeds_needed is not None:
        return f"{text} About {answer.seeds_needed} seeds would be needed for a difference of this size."
    if answer.expect == "not_worse" and test is not None and (test.effect or 0.0) <= 0:
        return f"{text} The difference itself reaches the margin, so more seeds would not show that it is not worse."
    return f"{text} More than {MOST_SEEDS} seeds would be needed for a difference of this size."
