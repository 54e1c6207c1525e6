"""Edited experiments: what goes on, for every searcher and scheduler; seeds for the leaders; the difference of a plan.

Scripted trials, a ledger in memory, no Ray and no waiting.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from expflow.errors import UserError
from expflow.events import TrialEnded, TrialForked, TrialProposed, TrialStarted
from expflow.ledger import TrialState
from expflow.sweep.plan_difference import check_extension, compare_plan
from expflow.sweep.trial_expansion import planned_trials
from tests.sweep.stage import Killed, Stage
from tests.sweep.test_contract import GRID, SCHEDULE, SEARCH, SPACE, experiment, run_searches_before


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def configs(stage: Stage) -> list[str]:
    return list(dict.fromkeys(trial.config for trial in stage.state().plan_trials()))


def new_stage(folder: Path, text: str, slots: int = 1) -> Stage:
    folder.mkdir()
    return Stage(folder, text, slots)


@pytest.mark.parametrize("name", [searcher for searcher in SEARCH if searcher not in ("grid", "points", "arms")])
def test_more_samples_are_those_that_would_have_come_next(tmp_path: Path, name: str) -> None:
    searcher, space = SEARCH[name]
    few = searcher.replace("trials: 8", "trials: 5").replace("trials: 7", "trials: 5").replace("trials: 6", "trials: 4")
    few = few.replace("trials: 4, startup: 2", "trials: 3, startup: 2")
    assert few != searcher
    whole, grown = (
        new_stage(tmp_path / "a", experiment(searcher, space)),
        new_stage(tmp_path / "b", experiment(few, space)),
    )
    whole.run()
    grown.run()
    before = configs(grown)
    grown.write(experiment(searcher, space))
    changes = compare_plan(plan := grown.plan(), planned_trials(plan), grown.state())
    assert (len(changes.kept), changes.extended, changes.dropped) == (len(before), (), ())
    assert len(changes.new) + changes.later == len(configs(whole)) - len(before)
    grown.run()
    assert configs(grown) == configs(whole)
    assert len(grown.ledger.events(TrialEnded)) == len(configs(whole))


@pytest.mark.parametrize("name", SEARCH)
def test_more_seeds_run_for_the_configs_that_are_there(tmp_path: Path, name: str) -> None:
    searcher, space = SEARCH[name]
    run_searches_before(tmp_path, searcher)
    stage = Stage(tmp_path, experiment(searcher, space))
    stage.run()
    before = configs(stage)
    stage.write(experiment(searcher, space, more="seeds: 2"))
    changes = compare_plan(plan := stage.plan(), planned_trials(plan), stage.state())
    assert (len(changes.kept), len(changes.new), changes.dropped) == (len(before), len(before), ())
    stage.run()
    assert sorted(configs(stage)) == sorted(before)
    trials = stage.state().plan_trials()
    assert sorted((trial.config, trial.seed) for trial in trials) == sorted(
        (config, seed) for config in before for seed in (0, 1)
    )
    assert all(trial.status == "done" and trial.attempt == 1 for trial in trials)


@pytest.mark.parametrize("name", SCHEDULE)
def test_longer_training_goes_on_with_what_was_done(tmp_path: Path, name: str) -> None:
    scheduler, more, slots = SCHEDULE[name]

    stage = Stage(tmp_path, experiment("{name: random, trials: 4}", SPACE, scheduler, more, 4), slots)
    stage.run()
    before = {trial.trial: trial.status for trial in stage.state().plan_trials()}
    stage.write(experiment("{name: random, trials: 4}", SPACE, scheduler, more, 8))
    changes = compare_plan(plan := stage.plan(), planned_trials(plan), stage.state())
    done = {trial for trial, status in before.items() if status == "done"}
    assert set(changes.extended) == done
    assert set(changes.kept) == before.keys() - done
    stage.run()
    after = {trial.trial: trial for trial in stage.state().plan_trials()}
    assert after.keys() == before.keys()
    assert all(trial.ended for trial in after.values())
    for trial, status in before.items():
        if status == "stopped":  # a longer budget is no reason to take that back
            assert after[trial].status == "stopped"
        elif after[trial].status == "done":
            assert after[trial].reports[-1].step == 8
    assert any(trial.status == "done" for trial in after.values())


def test_longer_training_is_refused_where_the_schedule_was_planned_for_its_length(tmp_path: Path) -> None:
    text = """
data: digits
model: {{name: resnet, layout: cifar, depth: 8}}
task: classification
optimizer: {{name: sgd, lr: 0.1}}
schedule: {schedule}
trainer: {{epochs: {epochs}}}
sweep: {{space: {{optimizer.lr: [0.1, 0.2]}}, metric: val/top1}}
"""
    for schedule, refused in (("one_cycle", True), ("constant", False)):
        (tmp_path / schedule).mkdir()
        stage = Stage(tmp_path / schedule, text.format(schedule=schedule, epochs=2))
        stage.open()
        for planned in planned_trials(stage.plan()):
            stage.ledger.append(
                TrialProposed(planned.trial, planned.config, planned.seed, planned.values, {}, planned.budget, 1)
            )
            stage.ledger.append(TrialStarted(planned.trial, 1, "gang-1"))
            stage.ledger.append(TrialEnded(planned.trial, 1, "done", 2, 1.0))
        for epochs in (4, 1):
            stage.write(text.format(schedule=schedule, epochs=epochs))
            if refused or epochs == 1:
                with pytest.raises(UserError, match="--fresh") as error:
                    check_extension(stage.plan(), stage.state())
                assert ("one_cycle plans its course" if epochs == 4 else "a shorter training") in str(error.value)
            else:
                check_extension(stage.plan(), stage.state())


def test_an_edited_grid_keeps_runs_and_drops(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment("{name: grid}", GRID))
    stage.run()
    edited = "{task.value: [0.9, 0.7], task.rate: [0.3, 0.6]}"
    stage.write(experiment("{name: grid}", edited))
    changes = compare_plan(plan := stage.plan(), planned_trials(plan), stage.state())
    assert str(changes) == "2 kept, 2 new, 4 dropped (their results stay)"
    stage.run()
    assert len(stage.state().trials) == 8
    assert [trial.values["task.value"] for trial in stage.state().plan_trials()] == [0.9, 0.9, 0.7, 0.7]
    stage.write(experiment("{name: grid}", GRID))  # and back: everything is there
    changes = compare_plan(plan := stage.plan(), planned_trials(plan), stage.state())
    assert (len(changes.kept), changes.new) == (6, ())


CONFIRM = "seeds: {screen: 2, confirm: 3, top: 2}"


def confirmed(stage: Stage) -> list[TrialState]:
    return [trial for trial in stage.state().plan_trials() if trial.phase == "confirm"]


@pytest.mark.parametrize("name", ["grid", "tpe"])
def test_the_leaders_get_new_seeds_wherever_the_driver_is_killed(tmp_path: Path, name: str) -> None:
    searcher, space = SEARCH[name]
    if name == "tpe":
        searcher = searcher.replace("trials: 8", "trials: 4")
    text = experiment(searcher, space, more=CONFIRM)
    whole = new_stage(tmp_path / "whole", text)
    whole.run()
    state = whole.state()
    means: dict[str, list[float]] = {}
    for trial in state.plan_trials():
        if trial.phase == "search":
            means.setdefault(trial.config, []).append(trial.metrics["val/top1"])
    best = sorted(means, key=lambda config: -sum(means[config]) / 2)[:2]
    assert [(trial.config, trial.seed) for trial in confirmed(whole)] == [
        (config, seed) for config in best for seed in (2, 3, 4)
    ]
    for place in range(2, len(whole.ledger.lines), 7):
        stage = new_stage(tmp_path / f"killed-{place}", text)
        with pytest.raises(Killed):
            stage.run(place)
        stage.run()
        assert stage.story() == whole.story()
    changes = compare_plan(plan := whole.plan(), planned_trials(plan), state)
    assert (len(changes.kept), changes.new, changes.dropped, changes.later) == (len(state.trials), (), (), 0)


def test_confirming_with_a_scheduler_that_stops(tmp_path: Path) -> None:
    text = experiment(
        "{name: random, trials: 6}", SPACE, "{name: asha, reduction: 2}", "seeds: {screen: 1, confirm: 2, top: 2}", 4
    )
    stage = Stage(tmp_path, text)
    stage.run()
    confirming = confirmed(stage)
    assert len(confirming) == 4
    assert all(
        trial.status == "done" and trial.seed in (1, 2) for trial in confirming
    )  # a confirming trial is never stopped


def test_a_population_keeps_its_ids_and_seeds(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment("{name: random, trials: 4}", SPACE, "{name: pbt, resample: 0.5}", "", 4), 2)
    stage.run()
    forks: list[Any] = stage.ledger.events(TrialForked)
    assert forks
    state = stage.state()
    assert len(state.trials) == 4
    for fork in forks:
        assert fork.trial != fork.source
        assert set(fork.values) == {"task.value", "task.rate"}
    forked = state.trials[forks[-1].trial]
    assert forked.values != forked.latest_values == forks[-1].values
    assert forked.status == "done"
