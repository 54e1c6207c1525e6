"""What an edited experiment changes: which results it keeps, which trials are new, longer, or no longer asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from expflow.config.identity import config_id
from expflow.config.schema import Recipe, Trainer
from expflow.errors import ExperimentInvalid, UserError
from expflow.ledger.state import SweepState, TrialState
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.plan_identity import budget_of
from expflow.sweep.trial_expansion import expand_config, expected_trials
from expflow.training.checkpoints.schedule_extension import schedule_allows_extension


@dataclass(frozen=True)
class PlanDifference:
    """The trials of a plan and of its results, each id in one place.

    Attributes:
        kept: They have ended.
        open: They are known and have not ended.
        extended: They are done, and the plan gives them a longer budget.
        new: The results do not have them.
        dropped: The plan has them no longer; their results stay.
        later: Number of trials that the searcher will only propose when results are there.
    """

    kept: tuple[str, ...]
    open: tuple[str, ...]
    extended: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    later: int = 0

    def __str__(self) -> str:
        parts = [
            (self.kept, "kept"),
            (self.open, "unfinished"),
            (self.extended, "extended"),
            (self.new, "new"),
            (self.dropped, "dropped (their results stay)"),
        ]
        counts = [f"{len(trials)} {word}" for trials, word in parts if trials]
        return ", ".join([*counts, *([f"{self.later} to be proposed as results come"] if self.later else [])])


def compare_plan(plan: Plan, planned: Iterable[PlannedTrial], known: SweepState) -> PlanDifference:
    """The trials of a plan against the results that are there.

    Of a searcher that learns, trials that it proposed before are kept, since they are replayed; and so are confirming
    trials of configs that are still there.

    Args:
        plan: The plan.
        planned: Its trials, as far as they are known beforehand.
        known: The state of its results.
    """
    sorted_: dict[str, list[str]] = {"kept": [], "open": [], "extended": [], "new": []}
    wanted: dict[str, PlannedTrial | None] = {trial.trial: trial for trial in planned}
    if plan.learns and known.header is not None and known.header.search == plan.search_key:
        wanted = _replayed(plan, known)
    configs = {known.trials[name].config if trial is None else trial.config for name, trial in wanted.items()}
    for trial in known.plan_trials():
        if trial.phase == "confirm" and _confirms(plan, trial) and trial.config in configs:
            wanted.setdefault(trial.trial, None)
    for name, wanted_trial in wanted.items():
        sorted_[_kind(wanted_trial, known.trials.get(name))].append(name)
    dropped = [name for name in known.current if name not in wanted]
    later = max(0, expected_trials(plan) - len(wanted)) if plan.learns and plan.limit else 0
    return PlanDifference(**{key: tuple(names) for key, names in sorted_.items()}, dropped=tuple(dropped), later=later)


def _replayed(plan: Plan, known: SweepState) -> dict[str, PlannedTrial | None]:
    """The trials of the configs that were proposed before, with the seeds of today; what follows depends on results."""
    replayed: dict[str, PlannedTrial | None] = {}
    for trial in known.plan_trials():
        if trial.phase == "search" and trial.trial not in replayed:
            replayed.update((planned.trial, planned) for planned in expand_config(plan, trial.values))
    return replayed


def _confirms(plan: Plan, trial: TrialState) -> bool:
    return plan.sweep.confirm is not None and trial.seed in plan.sweep.confirm.seeds


def _kind(planned: PlannedTrial | None, known: TrialState | None) -> str:
    if known is None:
        return "new"
    if planned is not None and known.status == "done" and known.budget != planned.budget:
        return "extended"
    return "kept" if known.ended else "open"


def planned_status(planned: PlannedTrial, known: SweepState) -> str:
    """The status of a planned trial in one word: ``new``, ``longer`` where its budget is another one, else the trial's
    own.

    Args:
        planned: The trial.
        known: The state of the results.
    """
    trial = known.trials.get(planned.trial)
    if trial is None:
        return "new"
    return "longer" if trial.ended and trial.budget != planned.budget else trial.status


def check_extension(plan: Plan, known: SweepState) -> None:
    """Refuse a plan whose trials are done at another budget and cannot be trained on to this one.

    Args:
        plan: The plan.
        known: The state of its results.

    Raises:
        UserError: A trial cannot be extended; the message says why.
    """
    for trial in known.plan_trials():
        if trial.status != "done":
            continue
        try:
            recipe = plan.loaded.configure(trial.values)
        except ExperimentInvalid:
            continue
        if config_id(recipe) != trial.config or budget_of(recipe) == trial.budget:
            continue
        if reason := _obstacle(recipe, trial):
            was = ", ".join(f"{key} {value}" for key, value in trial.budget.items())
            now = ", ".join(f"{key} {value}" for key, value in budget_of(recipe).items())
            raise UserError(
                f"{plan.name} has trials that are done at {was}, and the file says {now}: {reason}. "
                f"Take {next(iter(trial.budget), 'trainer.epochs')} back, or start anew beside them with --fresh"
            )


def _obstacle(recipe: Recipe, trial: TrialState) -> str | None:
    before = {key.removeprefix("trainer."): value for key, value in trial.budget.items()}
    if any(
        getattr(recipe.trainer, key, None) is not None and getattr(recipe.trainer, key) < value
        for key, value in before.items()
    ):
        return "a shorter training is not a part of a longer one"
    old = recipe.model_copy(update={"trainer": recipe.trainer.model_copy(update=_known(before))})
    return schedule_allows_extension(old, recipe)


def _known(budget: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in budget.items() if key in Trainer.model_fields}
