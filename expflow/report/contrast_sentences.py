"""The answer of a declared contrast in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from expflow.ledger.header import Header
from expflow.ledger.trial_values import counted_value
from expflow.metrics import metric_value
from expflow.report import formatting, trial_results
from expflow.report.contrast_answers import Answer
from expflow.report.contrast_terms import Comparison
from expflow.report.contrast_tests import AskedContrast
from expflow.report.run_facts import continue_command
from expflow.report.seed_extension import confirming_count, extended_seeds
from expflow.report.sequential import SeedsNeeded
from expflow.report.statistics import MOST_SEEDS

_VERDICT_WORDS = {
    "as_expected": "As expected.",
    "opposite": "This is the opposite of what was expected.",
    "not_resolved": "Not resolved.",
    "exploratory": "Exploratory: it was declared when its results were there, so nothing is claimed.",
    "in_progress": "In progress: it is tested when all its planned seeds have ended.",
}
_RESOLVED = ("as_expected", "opposite")


def answer_in_words(answer: Answer, asked: AskedContrast, header: Header, searched: Sequence[str]) -> Answer:
    """An answer with its claim, sentence and notes.

    Args:
        answer: The answer in numbers.
        asked: The contrast that it is of.
        header: The sweep's header.
        searched: The searched keys.
    """
    command = _next_command(answer, asked, header)
    notes = (*_notes(answer, asked, header), *_left_out(asked, header))
    named = replace(answer, claim=claim(asked.contrast), next_command=command, notes=notes)
    return replace(named, sentence=_sentence(named, asked, header, searched))


def claim(contrast: Mapping[str, Any]) -> str:
    """The contrast as it was declared: ``fit/loss: depth=56 higher than depth=20 where shortcut=none``.

    Args:
        contrast: The declared contrast, as the header holds it.
    """
    expect = {"higher": "higher than", "lower": "lower than", "not_worse": "not worse than"}[contrast["expect"]]
    margin = contrast.get("margin")
    within = (
        "" if margin is None else f" (margin {formatting.difference_value(contrast['metric'], margin).lstrip('+')})"
    )
    return f"{contrast['metric']}: {_first(contrast)} {expect} {_second(contrast)}{_where(contrast)}{within}"


def _first(contrast: Mapping[str, Any]) -> str:
    """What the first of the two values is of: a side, or the difference of both sides at the second level."""
    return _at_level(contrast, 1) if contrast.get("by") else _tuned(contrast, "of")


def _second(contrast: Mapping[str, Any]) -> str:
    return _at_level(contrast, 0) if contrast.get("by") else _tuned(contrast, "against")


def _tuned(contrast: Mapping[str, Any], side: str) -> str:
    label = formatting.config_label(contrast[side])
    keys = contrast.get("tuned_over") or ()
    return f"{label} (tuned over {formatting.and_join(keys)})" if keys else label


def _at_level(contrast: Mapping[str, Any], place: int) -> str:
    ((key, values),) = contrast["by"].items()
    level = formatting.config_label({key: values[place]})
    return f"{_tuned(contrast, 'of')} minus {_tuned(contrast, 'against')} at {level}"


def _where(contrast: Mapping[str, Any]) -> str:
    where = contrast.get("where")
    return f" where {formatting.config_label(where)}" if where else ""


def _sentence(answer: Answer, asked: AskedContrast, header: Header, searched: Sequence[str]) -> str:
    """The answer in words: recipe and budget first, then the result, then how sure it is."""
    contrast = asked.contrast
    second = _second(contrast)
    best_epoch = answer.metric == header.metric and header.select == "best_epoch"
    subject = f"{answer.metric}{' (best epoch)' if best_epoch else ''} of {_first(contrast)}"
    if answer.difference is None:
        reason = "; ".join(_left_out(asked, header)) or "no two configs that were tried differ in this alone"
        state = "in progress" if answer.verdict == "in_progress" else "not resolved"
        return f"{subject} against {second}{_where(contrast)} is {state}: no common seed ({reason})."
    words_of_recipe = [part for part in (formatting.recipe_words(header, searched),) if part]
    given = "With " + ", ".join([*words_of_recipe, f"n = {formatting.plural(answer.n, 'seed')}"])
    if asked.shown.comparison.averaged > 1:
        given += f", averaged over {asked.shown.comparison.averaged} pairs of configs"
    result = _result(answer, contrast, second, header)
    return f"{given}: {subject} {result}: {_numbers(answer)}. {_conclusion(answer, asked)}"


def _result(answer: Answer, contrast: Mapping[str, Any], second: str, header: Header) -> str:
    if answer.verdict not in _RESOLVED:
        return f"and of {second}{_where(contrast)}"
    where, scope = _where(contrast), _scope(answer, header)
    if answer.expect == "not_worse":
        margin = formatting.difference_value(answer.metric, contrast["margin"]).lstrip("+")
        return f"is not worse than that of {second}{where} by {margin} or more{scope}"
    higher = (answer.verdict == "as_expected") == (answer.expect == "higher")
    return f"is {'higher' if higher else 'lower'} than that of {second}{where}{scope}"


def _scope(answer: Answer, header: Header) -> str:
    """Where a resolved difference holds, unless it holds for other images and all seeds: then it needs no words."""
    words = ""
    if answer.holds_for == "these_images":
        samples = header.measured_on(answer.metric)
        images = formatting.images_words(answer.metric, samples) if samples else "images"
        words += f" on these {images}"
    if answer.resolution == "resolved_where_trained":
        words += " where training went well"
    return words


def _numbers(answer: Answer) -> str:
    if answer.of is None or answer.against is None or answer.difference is None:
        return ""
    metric, difference = answer.metric, answer.difference
    parts = [
        f"{metric_value(metric, answer.of.mean)} vs {metric_value(metric, answer.against.mean)}",
        f"difference {formatting.difference_value(metric, difference.mean)} "
        f"{formatting.interval(metric, difference, difference=True)}".rstrip(),
    ]
    if answer.level_interval is not None and answer.level is not None and difference.kind == "t":
        low, high = (formatting.difference_value(metric, end, unit=False) for end in answer.level_interval)
        parts.append(f"at the tested level of {formatting.percent(answer.level)} [{low}, {high}]")
    if answer.bound is not None:
        parts.append(f"one-sided 95 % bound {formatting.difference_value(metric, answer.bound)}")
    if answer.p_holm is not None:
        parts.append(f"p (Holm) {formatting.p_value(answer.p_holm)}")
    elif answer.p is not None:
        parts.append(f"p, not corrected, {formatting.p_value(answer.p)}")
    return ", ".join(parts)


def _conclusion(answer: Answer, asked: AskedContrast) -> str:
    text = _VERDICT_WORDS[answer.verdict]
    if answer.faded:
        return f"{text} It has faded: an earlier analysis resolved it, the newest one alone does not."
    if answer.verdict != "not_resolved":
        return text
    test = asked.shown.test
    if test is not None and test.why:
        return f"{text} Here {test.why}." if test.p is None else text
    if answer.seeds_needed is not None and answer.seeds_needed.middle is not None:
        return f"{text} {seeds_words(answer.seeds_needed)}"
    if answer.expect == "not_worse" and test is not None and (test.effect or 0.0) <= 0:
        return f"{text} The difference itself reaches the margin, so more seeds would not show that it is not worse."
    return f"{text} More than {MOST_SEEDS} seeds would be needed for a difference of this size."


def seeds_words(needed: SeedsNeeded) -> str:
    """``About 9 seeds (from 6 to 40) would be needed for a difference of this size.``

    Args:
        needed: The range; its middle is known.
    """
    least = needed.low if needed.low is not None else needed.middle
    extent = f"from {least} to {needed.high}" if needed.high is not None else f"{least} or more"
    return f"About {needed.middle} seeds ({extent}) would be needed for a difference of this size."


def _next_command(answer: Answer, asked: AskedContrast, header: Header) -> str:
    """The command that trains the seeds from which an exploratory contrast gets its answer."""
    if answer.verdict != "exploratory":
        return ""
    count = confirming_count(header.seeds, len(asked.history.seen))
    return f"{continue_command(header)} --set sweep.seeds={extended_seeds(header.seeds, count)}"


def _notes(answer: Answer, asked: AskedContrast, header: Header) -> Iterator[str]:
    """How far the answer goes, a sentence for each limit."""
    if answer.n > 1 and answer.difference is not None:
        yield f"{answer.agreeing} of {answer.n} seeds agree in sign with the mean difference."
    if answer.verdict in _RESOLVED:
        yield from _images_note(answer, header)
    yield from _losses_notes(answer)
    if len(answer.analyses) > 1:
        yield (
            f"Analysis {len(answer.analyses)} of this contrast: seed sets of "
            f"{formatting.and_join(str(len(analysis.seeds)) for analysis in answer.analyses)} share the level as "
            f"{formatting.and_join(f'{analysis.share:g}' for analysis in answer.analyses)}."
        )
    if asked.tests and asked.history.running is not None:
        yield f"In progress: a further analysis of {len(asked.history.running.seeds)} planned seeds."
    if answer.variants > 1:
        yield (
            f"Asked of {answer.variants} variants of the experiment (other recipes or budgets): one of several is "
            "more easily significant by chance."
        )
    if answer.verdict == "exploratory":
        yield f"New seeds make it confirmatory: {_next_command(answer, asked, header)}"
    elif asked.history.seen:
        seeds = ", ".join(map(str, asked.history.seen))
        yield f"Seeds {seeds} had ended when the contrast was declared; they are not in the test."


def _images_note(answer: Answer, header: Header) -> Iterator[str]:
    if answer.holds_for == "no_images":
        return
    samples = header.measured_on(answer.metric)
    images = formatting.images_words(answer.metric, samples) if samples else "images"
    over = answer.other_images
    if header.overlap and answer.metric.startswith("val/"):
        yield (
            f"Each seed has {images} of its own, so it is about other images, too; trainings share most of their "
            f"images, for which the variance of the mean is 1/n + {header.overlap:.2g} of that of a seed (Nadeau and "
            "Bengio)."
        )
        return
    if over is None:
        yield f"It is about these {images}: no values per image are kept that would say more."
        return
    low, high = (formatting.difference_value(answer.metric, end, unit=False) for end in (over.low, over.high))
    p = "" if answer.p_other_images is None else f", p (Holm) {formatting.p_value(answer.p_other_images)}"
    extent = f"95 % interval over seeds and images [{low}, {high}]{p}"
    if answer.holds_for == "other_images":
        yield f"It holds for other images like these {over.images:,}, too: {extent}."
    else:
        yield f"For other images than these {over.images:,} it is not resolved: {extent}."


def _losses_notes(answer: Answer) -> Iterator[str]:
    of, against = answer.of_seeds, answer.against_seeds
    if of is None or against is None:
        return
    if answer.p_losses is not None:
        yield (
            f"Without a value ended {of.lost} of {of.planned} trials of the one side and {against.lost} of "
            f"{against.planned} of the other (Fisher's exact test of these counts: p "
            f"{formatting.p_value(answer.p_losses)}, not corrected)."
        )
    for seeds, side in ((of, "one"), (against, "other")):
        if seeds.far_out:
            which = formatting.and_join(str(seed) for seed in seeds.far_out)
            yield f"Of the {side} side seed {which} lies far from the others; it is in the mean and in the test."


def _left_out(asked: AskedContrast, header: Header) -> tuple[str, ...]:
    """Which of the planned seeds the pairs lack, and why."""
    return left_out(asked.shown.comparison, asked.shown.seeds, asked.shown.planned, header)


def left_out(
    comparison: Comparison, complete: Sequence[int], planned: Sequence[int], header: Header
) -> tuple[str, ...]:
    """Which seeds a comparison lacks, and why.

    Args:
        comparison: The configs.
        complete: The seeds that it has.
        planned: The seeds that were planned.
        header: The sweep's header.
    """
    notes: dict[str, None] = {}
    metric = comparison.contrast["metric"]
    for config in comparison.configs:
        for trial in config.trials:
            if trial.seed in complete or trial.seed not in planned:
                continue
            if counted_value(trial, metric, header) is not None:
                continue
            failed = trial_results.failure(trial, metric, header)
            waiting = {"stopped": "was stopped early", "running": "is still running"}.get(trial.status, "is to come")
            what = f"{failed.kind}: {failed.reason}" if failed else waiting
            notes[f"seed {trial.seed} left out: {config.label} {what}"] = None
    return tuple(notes)
