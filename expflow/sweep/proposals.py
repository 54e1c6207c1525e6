"""The plan's trials in the order in which they are proposed. Each is recorded before it is handed out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from expflow.events import Phase, TrialProposed
from expflow.sweep.event_recorder import EventRecorder
from expflow.sweep.limits import SweepLimits
from expflow.sweep.objective import leading_configs
from expflow.sweep.parent_weights import keep_parents
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.searchers import Values
from expflow.sweep.trial_expansion import expand_config


class Proposals:
    """Asks the searcher for configs, and records their trials.

    Args:
        plan: The sweep's plan.
        recorder: Records the proposals, and holds the states they follow from.
        limits: How many trials the budget allows.
    """

    def __init__(self, plan: Plan, recorder: EventRecorder, limits: SweepLimits) -> None:
        self._plan, self._recorder, self._limits = plan, recorder, limits

    def search_trials(self) -> Iterator[PlannedTrial]:
        """The trials of the search: those of configs that are known, then new ones."""
        state, search = self._recorder.state, self._recorder.search_state
        for group in list(search.groups.values()):
            if not any(state.trials[trial].status == "stopped" for trial in group.trials):
                yield from self._propose(group.values, group.draw, "search")
            else:  # a config that was stopped gets no further seeds
                seeds = [state.trials[trial].seed for trial in group.trials]
                yield from self._propose(group.values, group.draw, "search", seeds)
        while True:
            if reason := self._limits.why_not_propose(len(self._plan.sweep.seeds), state):
                search.close(reason)
            values = search.suggest(state)
            for measured in search.networks.unrecorded() if search.networks is not None else ():
                self._recorder.record(measured)  # before anything that followed from it
            if values is None:
                return
            yield from self._propose(values, search.draws, "search")

    def confirming_trials(self) -> Iterator[PlannedTrial]:
        """The further seeds of the leading configs; none before the search is over."""
        state, search = self._recorder.state, self._recorder.search_state
        confirm = self._plan.sweep.confirm
        if confirm is None or not search.closed:
            return
        searched = [trial for trial in state.plan_trials() if trial.phase == "search"]
        if not all(trial.ended for trial in searched):
            return
        for config in leading_configs(searched, self._plan.objective, confirm.top):
            group = search.groups[config]
            yield from self._propose(group.values, group.draw, "confirm", confirm.seeds)

    def _propose(
        self, values: Values, draw: int, phase: Phase, seeds: Sequence[int] | None = None
    ) -> list[PlannedTrial]:
        """Record that the plan holds a config with its seeds, all of them before the first is handed out."""
        trials = expand_config(self._plan, values, seeds)
        state = self._recorder.state
        recipe = None
        for planned in trials:
            known = state.trials.get(planned.trial)
            if known is not None and planned.trial in state.current and known.budget == planned.budget:
                continue
            if recipe is None:
                recipe = planned.recorded
                keep_parents(self._plan.folder, planned.recipe, state, [planned.seed for planned in trials])
            self._recorder.record(
                TrialProposed(
                    trial=planned.trial,
                    config=planned.config,
                    seed=planned.seed,
                    values=planned.values,
                    recipe=recipe,
                    budget=planned.budget,
                    draw=draw,
                    phase=phase,
                )
            )
        return trials
