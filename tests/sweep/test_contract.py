"""One contract for every searcher and every scheduler of the registry: arguments that are wrong or unknown are refused
by name, and what a killed driver's successor does is what the driver would have done.

Scripted trials, a ledger in memory, no Ray and no waiting. A sweep is run once without interruption; then it is killed
in the middle of writing its n-th event, for every n, and continued. Proposals, decisions, forks and the final table
must be the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from expflow.errors import ExperimentInvalid
from expflow.registry import SCHEDULERS, SEARCHERS
from expflow.sweep.searchers.model_free import RandomSearch
from expflow.sweep.searchers.specs import SAMPLERS
from tests.sweep.stage import Killed, Stage

SPACE = "{task.value: {uniform: [0, 1]}, task.rate: {loguniform: [0.1, 0.9]}}"
CONDITIONAL = (
    "{task.noise: [0.0, 0.01], task.value: {uniform: [0, 1]}, "
    "task.rate: {uniform: [0.1, 0.9], when: {task.noise: 0.01}}}"
)
GRID = "{task.value: [0.2, 0.9, 0.5], task.rate: [0.3, 0.6]}"

SEARCH = {
    "grid": ("{name: grid}", GRID),
    "random": ("{name: random, trials: 6}", CONDITIONAL),
    "points": (
        "{name: points, points: [{task.value: 0.2}, {task.value: 0.7, task.rate: 0.4}, {task.value: 0.4}]}",
        None,
    ),
    "tpe": ("{name: tpe, trials: 8, startup: 3}", CONDITIONAL),
    **{
        f"optuna {sampler}": (f"{{name: optuna, sampler: {sampler}, trials: {4 if sampler == 'gp' else 7}}}", SPACE)
        for sampler in SAMPLERS
    },
}
CHOICES = (
    "{task.value: [0.2, 0.5, 0.7, 0.9], task.noise: [0.0, 0.01], "
    "task.rate: {choice: [0.3, 0.6], when: {task.noise: 0.01}}}"
)
SEARCH |= {
    "nsga2": ("{name: nsga2, trials: 8, population: 3}", CONDITIONAL),
    "controller": ("{name: controller, trials: 8, batch: 2, hidden: 4, lr: 0.3}", CHOICES),
    "evolution": ("{name: evolution, trials: 8, population: 3, sample: 2, crossover: 0.5}", CHOICES),
    "local": ("{name: local, trials: 8, startup: 2}", CHOICES),
    "predictor": ("{name: predictor, trials: 8, startup: 3, ensemble: 2, candidates: 10, refit: 2}", CHOICES),
}
SEARCH["arms"] = (
    "{name: arms, search: found, random_search: drawn, random_children: 2, by_hand: {task.value: 0.5}}",
    None,
)
SEARCHED = {"found": "{name: tpe, trials: 4, startup: 3}", "drawn": "{name: random, trials: 5, seed: 3}"}
"""Results that the searcher arms begins with."""
OF_CHOICES = ("controller", "evolution", "local", "predictor")
SEARCH["optuna gp"] = ("{name: optuna, sampler: gp, trials: 4, startup: 2}", SPACE)

SCHEDULE = {
    "none": ("{name: none}", "", 1),
    "asha": ("{name: asha, reduction: 2}", "", 1),
    "median": ("{name: median, min_trials: 2}", "", 1),
    "successive_halving": ("{name: successive_halving, reduction: 2}", "seeds: 2", 2),
    "hyperband": ("{name: hyperband, reduction: 2}", "seeds: 2", 2),
    "pbt": ("{name: pbt, resample: 0.5}", "", 2),
}
"""Arguments, more of the sweep, and slots. Those that compare trials at barriers decide alike whoever comes first, so
they run two at a time, and who was paused and for whom others waited is left out of the comparison."""

BAD_SEARCH = {
    "grid": None,
    "random": ("trials: 0", "trials"),
    "points": ("points: []", "points"),
    "tpe": ("trials: 8, startup: 0", "startup"),
    **{
        f"optuna {sampler}": (f"sampler: {sampler}, trials: 8, options: {{nonsense: 1}}", "options")
        for sampler in SAMPLERS
    },
    "nsga2": ("trials: 8, population: 1", "population"),
    "controller": ("trials: 8, baseline: 1", "baseline"),
    "evolution": ("trials: 8, population: 1", "population"),
    "local": ("trials: 8, startup: 0", "startup"),
    "predictor": ("trials: 8, ensemble: 0", "ensemble"),
    "arms": ("search: found, random_search: drawn, random_children: -1", "random_children"),
}
BAD_SCHEDULE = {
    "none": None,
    "asha": ("reduction: 1", "reduction"),
    "median": ("min_trials: 0", "min_trials"),
    "successive_halving": ("min: 3, max: 2", "max"),
    "hyperband": ("unit: hours", "unit"),
    "pbt": ("quantile: 0.6", "quantile"),
}
"""Arguments that are wrong, and the one that has to be named; None for a component without any."""

SWEEP = """
task: {{name: scripted}}
trainer: {{epochs: {epochs}}}
sweep:
  {space}
  searcher: {searcher}
  scheduler: {scheduler}
  metric: val/top1
  {more}
"""


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def experiment(searcher: str, space: str | None, scheduler: str = "none", more: str = "", epochs: int = 2) -> str:
    written = f"space: {space}" if space else ""
    return SWEEP.format(space=written, searcher=searcher, scheduler=scheduler, more=more, epochs=epochs)


def run_searches_before(folder: Path, text: str) -> None:
    """Make the results that an experiment with the searcher arms begins with."""
    if "name: arms" in text:
        for name, searcher in SEARCHED.items():
            earlier = Stage(folder, experiment(searcher, SPACE))
            earlier.run()
            earlier.save(name)


def played(folder: Path, text: str, slots: int, kill_at: int | None = None) -> Stage:
    folder.mkdir()
    run_searches_before(folder, text)
    stage = Stage(folder, text, slots)
    if kill_at is not None:
        with pytest.raises(Killed):
            stage.run(kill_at)
    stage.run()
    return stage


def check_every_kill(tmp_path: Path, text: str, slots: int, stride: int = 1) -> dict[str, Any]:
    whole = played(tmp_path / "whole", text, slots)
    wanted = whole.story()
    events = len(whole.ledger.lines)
    for place in range(1, events, stride):
        stage = played(tmp_path / f"killed-{place}", text, slots, place)
        assert outcome(stage.story(), slots) == outcome(wanted, slots), f"killed at event {place}"
    return wanted


def outcome(story: dict[str, Any], slots: int) -> dict[str, Any]:
    if slots == 1:
        return story
    rest = {key: story[key] for key in ("proposed", "reported", "ended", "table")}
    return {**rest, "forked": sorted(story["forked"])}


def test_the_cases_below_are_all_there_are() -> None:
    assert {case.split()[0] for case in SEARCH} == set(SEARCHERS.names())
    assert {case.removeprefix("optuna ") for case in SEARCH if case.startswith("optuna")} == set(SAMPLERS)
    assert set(SCHEDULE) == set(SCHEDULERS.names())
    assert (set(BAD_SEARCH), set(BAD_SCHEDULE)) == (set(SEARCH), set(SCHEDULE))


def refusal(tmp_path: Path, searcher: str, space: str | None, scheduler: str = "none") -> str:
    with pytest.raises(ExperimentInvalid) as error:
        Stage(tmp_path, experiment(searcher, space, scheduler)).plan()
    return str(error.value)


def with_unknown_key(arguments: str) -> str:
    return arguments.removesuffix("}") + ", colour: blue}"


@pytest.mark.parametrize("name", SEARCH)
def test_a_searcher_refuses_what_it_does_not_know_by_name(tmp_path: Path, name: str) -> None:
    arguments, space = SEARCH[name]
    assert "sweep.searcher.colour" in refusal(tmp_path, with_unknown_key(arguments), space)


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_scheduler_refuses_what_it_does_not_know_by_name(tmp_path: Path, name: str) -> None:
    arguments, _, _ = SCHEDULE[name]
    message = refusal(tmp_path, "{name: random, trials: 4}", SPACE, with_unknown_key(arguments))
    assert "sweep.scheduler.colour" in message


@pytest.mark.parametrize("name", BAD_SEARCH)
def test_a_searcher_refuses_a_bad_argument_by_name(tmp_path: Path, name: str) -> None:
    short = name.split()[0]
    if (bad := BAD_SEARCH[name]) is None:
        assert set(SEARCHERS.spec(short).model_fields) == {"name"}
    else:
        arguments, field = bad
        message = refusal(tmp_path, f"{{name: {short}, {arguments}}}", SEARCH[name][1])
        assert f"sweep.searcher.{field}" in message


@pytest.mark.parametrize("name", BAD_SCHEDULE)
def test_a_scheduler_refuses_a_bad_argument_by_name(tmp_path: Path, name: str) -> None:
    if (bad := BAD_SCHEDULE[name]) is None:
        assert set(SCHEDULERS.spec(name).model_fields) == {"name"}
    else:
        arguments, field = bad
        message = refusal(tmp_path, "{name: random, trials: 4}", SPACE, f"{{name: {name}, {arguments}}}")
        assert f"sweep.scheduler.{field}" in message


@pytest.mark.parametrize("name", SEARCH)
def test_a_searcher_goes_on_as_if_its_driver_had_not_been_killed(tmp_path: Path, name: str) -> None:
    searcher, space = SEARCH[name]
    story = check_every_kill(
        tmp_path,
        experiment(searcher, space),
        1,
        stride=5 if name.startswith("optuna") else 7 if name in OF_CHOICES else 1,
    )
    assert all(status == "done" for status, _ in story["ended"].values())
    assert len(story["proposed"]) == len(story["table"]) >= 3


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_scheduler_goes_on_as_if_its_driver_had_not_been_killed(tmp_path: Path, name: str) -> None:
    scheduler, more, slots = SCHEDULE[name]
    text = experiment("{name: random, trials: 4}", SPACE, scheduler, more, epochs=4)
    story = check_every_kill(tmp_path, text, slots)
    statuses = [status for status, _ in story["ended"].values()]
    assert "done" in statuses
    if name not in ("none", "pbt"):
        assert "stopped" in statuses
    assert bool(story["forked"]) == (name == "pbt")


def test_a_searcher_learns_all_metrics_as_means_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = []
    monkeypatch.setattr(RandomSearch, "complete", lambda self, values, result: learned.append(result))
    stage = played(tmp_path / "sweep", experiment("{name: random, trials: 2}", SPACE, more="seeds: 2"), 1)
    trials = list(stage.state().trials.values())
    assert len(learned) == 2
    for result, pair in zip(learned, (trials[:2], trials[2:]), strict=True):
        wanted = {name: (pair[0].metrics[name] + pair[1].metrics[name]) / 2 for name in pair[0].metrics}
        assert result.metrics == wanted
        assert result.score == wanted["val/top1"]


def test_a_searcher_that_learns_and_a_scheduler_that_stops_together(tmp_path: Path) -> None:
    check_every_kill(tmp_path, experiment("{name: tpe, trials: 6, startup: 2}", SPACE, "asha", epochs=4), 1, stride=3)
