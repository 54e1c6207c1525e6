"""Tries one batch of each distinct network of a plan before its trials are paid for.

What is tried is :func:`expflow.training.batch_check.check_batches`: by ``plan`` in its own process, by ``sweep`` in the
first rank that gets a trial of the network.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from expflow.config.identity import config_text
from expflow.config.schema import Recipe
from expflow.errors import ExperimentInvalid
from expflow.sweep.network_problems import ProblemsOfNetworks
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.trial_ranks import ranks_of
from expflow.sweep.tried_networks import TriedNetworks, batch_check, can_be_tried, trained_samples
from expflow.training.contract import Attempt, BatchCheck, BatchFinding, World

ALL_SECONDS = 120.0
"""How long ``plan`` tries networks, all together; those that are left are named."""


@dataclass(frozen=True)
class TriedBatches:
    """What was tried of a plan where nothing is wrong.

    Attributes:
        tried: Number of networks whose batches were tried now.
        known: Number of networks that were tried before.
        notes: Of each network that could not be tried, why.
    """

    tried: int
    known: int
    notes: tuple[str, ...]


def try_batches(plan: Plan, trials: Iterable[PlannedTrial]) -> TriedBatches:
    """Try one batch of each distinct network in this process, unless that was done before.

    Args:
        plan: The plan.
        trials: Its trials.

    Raises:
        ExperimentInvalid: With everything that would fail, each in the place that says it.
    """
    from expflow.training.batch_check import check_batches  # imports torch and Lightning

    checks, world = TriedNetworks(plan), World(threads=plan.loaded.experiment.resources.cpus_per_rank)
    resources, begun = plan.loaded.experiment.resources, time.monotonic()
    wrong = ProblemsOfNetworks(plan)
    tried, known, notes = 0, 0, dict[str, str]()
    for key, trial in _one_of_each(checks, trials):
        if wrong.note_splits(trial):
            continue
        metrics = checks.known_metrics(key)
        if metrics is not None:
            known += 1
        elif time.monotonic() - begun > ALL_SECONDS:
            notes[config_text(trial.values)] = f"the others took {ALL_SECONDS:g} s"
            continue
        else:
            wanted = batch_check(trial.recipe, trained_samples(trial), ranks_of(resources, trial.values))
            finding = check_batches(wanted, _attempt(trial), world)
            if finding.skipped:
                notes[config_text(trial.values)] = finding.skipped
                continue
            tried, metrics = tried + 1, finding.metrics
            if wrong.note(trial, finding):
                continue
            checks.remember(key, metrics)
        wrong.note_metrics(metrics)
    if (error := wrong.error()) is not None:
        raise error
    return TriedBatches(tried, known, tuple(_grouped(notes)))


def _one_of_each(checks: TriedNetworks, trials: Iterable[PlannedTrial]) -> Iterator[tuple[str, PlannedTrial]]:
    """The first trial of each distinct network, with its key."""
    configs, seen = set[str](), set[str]()
    for trial in trials:
        if trial.config in configs:
            continue
        configs.add(trial.config)
        recipe = trial.recipe
        if can_be_tried(recipe) and (key := checks.key(trial, recipe)) not in seen:
            seen.add(key)
            yield key, trial


def _attempt(trial: PlannedTrial) -> Attempt:
    root = Path(trial.data.root) if trial.data is not None else None
    return Attempt(
        trial.recipe, trial.seed, root, weights=trial.weights, features=trial.features, labeller=trial.labeller
    )


def _grouped(notes: Mapping[str, str]) -> Iterator[str]:
    """``not tried: depth=8, depth=20: reason``."""
    for reason in dict.fromkeys(notes.values()):
        configs = [config or "the recipe" for config, other in notes.items() if other == reason]
        more = f" and {len(configs) - 3} more" if len(configs) > 3 else ""
        yield f"no batch was tried of {', '.join(configs[:3])}{more}: {reason}"


class RankChecks:
    """What the ranks of a sweep try before the first trial of each network.

    Args:
        plan: The sweep's plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._checks = plan, TriedNetworks(plan)
        self._handed_out: dict[str, tuple[str, PlannedTrial]] = {}
        """Trial -> the key of its network, and the trial; for trials before which it is tried."""
        self._over: set[str] = set()
        """Keys of networks that need not be tried any more."""

    def check_of(self, trial: PlannedTrial, recipe: Recipe) -> BatchCheck | None:
        """What a rank is to try before a trial; None where its network was tried.

        Trials that begin at once try it each, so that none of them fails as a trial.

        Args:
            trial: The trial, which has reported nothing yet.
            recipe: Its recipe.
        """
        if not self._plan.check or not can_be_tried(recipe):
            return None
        key = self._checks.key(trial, recipe)
        if key not in self._over and self._checks.known_metrics(key) is not None:
            self._over.add(key)
        if key in self._over:
            return None
        self._handed_out[trial.trial] = key, trial
        ranks = ranks_of(self._plan.loaded.experiment.resources, trial.values)
        return batch_check(recipe, trained_samples(trial), ranks)

    def take(self, trial: str, finding: BatchFinding) -> ExperimentInvalid | None:
        """Take in what a rank found, and remember what went well.

        Args:
            trial: The trial before which it was tried.
            finding: What came of it.

        Returns:
            What is wrong with the experiment; None where nothing is.
        """
        if trial not in self._handed_out:
            return None
        key, planned = self._handed_out[trial]
        if not finding.failure:
            self._over.add(key)
        if finding.skipped:
            return None
        problems = ProblemsOfNetworks(self._plan)
        if not problems.note(planned, finding):
            self._checks.remember(key, finding.metrics)
            problems.note_metrics(finding.metrics)
        return problems.error()
