"""Whole sweeps on a real Ray cluster of this machine, with scripted trials, through the command line."""

from __future__ import annotations

import os
import re
import signal

import pytest

from expflow.events import AttemptFailed, TrialEnded, TrialStarted
from tests.sweep.runs import Workplace

FAILING = """
task: {name: scripted}
resources: {max_concurrent: 2}
sweep:
  space:
    task.script:
      - [{report: {val/top1: 0.5}}]
      - [{report: {val/top1: 0.4}}, {raise: no luck}]
      - [{exit: 3}]
      - [{nan: true}]
      - [{report: {val/top1: 0.7}}]
  metric: val/top1
"""

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_a_sweep_ends_with_every_trial_and_repeats_nothing(workplace: Workplace) -> None:
    workplace.scripted([0.2, 0.4, 0.6], seeds=2)
    output = workplace.run("sweep", "exp.yaml")
    state = workplace.state()
    assert [trial.status for trial in state.plan_trials()] == ["done"] * 6
    assert [(trial.values["task.value"], trial.seed) for trial in state.plan_trials()] == [
        (value, seed) for value in (0.2, 0.4, 0.6) for seed in (0, 1)
    ]
    assert workplace.counts() == {"proposed": 6, "started": 6, "reported": 12, "ended": 6}
    assert "value=0.6" in output
    assert (workplace.results / "report.html").exists()

    again = workplace.run("sweep", "exp.yaml")
    assert "nothing was left to run" in again
    assert workplace.counts() == {"proposed": 6, "started": 6, "reported": 12, "ended": 6}


def test_an_edited_file_runs_only_what_is_new(workplace: Workplace) -> None:
    workplace.scripted([0.2, 0.4])
    workplace.run("sweep", "exp.yaml")
    first = set(workplace.state().trials)
    workplace.scripted([0.4, 0.5, 0.2], seeds=2)
    assert "beside what is there: 2 kept, 4 new" in workplace.run("plan", "exp.yaml", "--no-time")
    workplace.run("sweep", "exp.yaml")
    state = workplace.state()
    assert first < set(state.trials)
    assert len(state.plan_trials()) == 6
    assert workplace.counts()["ended"] == 6
    workplace.scripted([0.4])
    assert "nothing was left to run" in workplace.run("sweep", "exp.yaml")
    assert len(workplace.state().plan_trials()) == 1
    assert len(workplace.state().trials) == 6


def test_a_trial_that_raises_is_named_and_stops_nobody(workplace: Workplace) -> None:
    workplace.write(FAILING)
    output = workplace.run("sweep", "exp.yaml", code=1)
    state = workplace.state()
    assert [trial.status for trial in state.plan_trials()] == ["done", "failed", "failed", "failed", "done"]
    failures = [record.body for record in workplace.records() if isinstance(record.body, AttemptFailed)]
    assert sorted(failure.failure for failure in failures) == [
        "code",
        "diverged",
        "worker_lost",
        "worker_lost",
        "worker_lost",
    ]
    assert "no luck" in output
    assert "Traceback" not in output
    assert workplace.run("sweep", "exp.yaml", code=1).count("nothing was left to run") == 1

    workplace.run("sweep", "exp.yaml", "--retry", "failed", code=1)
    starts = [record.body for record in workplace.records() if isinstance(record.body, TrialStarted)]
    assert len(starts) == 5 + 2 + 3 + 2  # the lost worker is tried three times, in both runs


def test_the_same_error_in_every_trial_stops_the_sweep_and_says_so(workplace: Workplace) -> None:
    workplace.scripted([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    text = (workplace.folder / "exp.yaml").read_text()
    workplace.write(text.replace("{sleep: 0.0}", "{raise: no such field}"))
    output = workplace.run("sweep", "exp.yaml", code=1)
    assert "the first 3 trials failed with the same error, so the sweep was stopped: no such field" in output
    assert 3 <= len(workplace.state().plan_trials()) < 8
    workplace.write(text)  # mended: other trials, since a script is part of the recipe
    workplace.run("sweep", "exp.yaml")
    assert [trial.status for trial in workplace.state().plan_trials()] == ["done"] * 8


def test_killed_driver_continues_and_repeats_nothing_finished(workplace: Workplace) -> None:
    workplace.scripted([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], sleep=1.0)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialEnded, 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {trial.trial for trial in workplace.state().plan_trials() if trial.ended}
    assert 2 <= len(finished) < 6

    workplace.run("sweep", "exp.yaml")
    state = workplace.state()
    assert [trial.status for trial in state.plan_trials()] == ["done"] * 6
    ended = [record.body.trial for record in workplace.records() if isinstance(record.body, TrialEnded)]
    assert sorted(ended) == sorted(state.trials)
    starts = [record.body.trial for record in workplace.records() if isinstance(record.body, TrialStarted)]
    assert all(starts.count(trial) == 1 for trial in finished)


def test_ctrl_c_saves_and_says_how_to_continue(workplace: Workplace) -> None:
    workplace.scripted([0.1, 0.2, 0.3, 0.4], sleep=2.0)
    process = workplace.start("sweep", "exp.yaml", "--set", "sweep.seeds=2")
    workplace.wait_for(TrialEnded, 1, process)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert re.search(r"to continue: .*expflow.* sweep exp.yaml --set sweep.seeds=2", output), output
    assert "Traceback" not in output
    before = {trial.trial for trial in workplace.state().plan_trials() if trial.ended}
    workplace.run("sweep", "exp.yaml", "--set", "sweep.seeds=2")
    ended = [record.body.trial for record in workplace.records() if isinstance(record.body, TrialEnded)]
    assert len(ended) == len(set(ended)) == 8
    assert before <= set(ended)


def test_two_drivers_at_once_are_refused(workplace: Workplace) -> None:
    workplace.scripted([0.1, 0.2], sleep=3.0)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialStarted, 1, process)
    output = workplace.run("sweep", "exp.yaml", code=3)
    assert "another driver" in output
    process.communicate(timeout=90)
    assert process.returncode == 0


def test_a_lost_dispatcher_is_said_and_the_same_command_continues(workplace: Workplace) -> None:
    workplace.scripted([0.1, 0.2, 0.3, 0.4], sleep=1.5)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialEnded, 1, process)
    dispatchers = workplace.descendants(process.pid, "ray::Dispatcher")
    assert len(dispatchers) == 1
    os.kill(dispatchers[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 3, output
    assert "the same command continues" in output
    workplace.run("sweep", "exp.yaml")
    assert [trial.status for trial in workplace.state().plan_trials()] == ["done"] * 4


def test_a_killed_rank_costs_one_attempt(workplace: Workplace) -> None:
    workplace.scripted([0.1, 0.2, 0.3], sleep=2.0)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialStarted, 1, process)
    ranks: list[int] = []
    while not ranks:
        ranks = workplace.descendants(process.pid, "ray::Rank.run")
    os.kill(ranks[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    failures = [record.body for record in workplace.records() if isinstance(record.body, AttemptFailed)]
    assert [failure.failure for failure in failures] == ["worker_lost"]
    assert [trial.status for trial in workplace.state().plan_trials()] == ["done"] * 3


UNEQUAL = """
task:
  name: scripted
  script: [{sleep: 0.4}, {report: {val/top1: curve}}]
trainer: {epochs: 1}
resources: {by_config: [{when: {task.value: 0.5}, ranks: 2}]}
sweep:
  space: {task.value: [0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9]}
  metric: val/top1
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two CPUs")
def test_a_trial_of_two_ranks_takes_its_turn_among_trials_of_one(workplace: Workplace) -> None:
    workplace.write(UNEQUAL)
    workplace.run("sweep", "exp.yaml")
    state = workplace.state()
    assert {trial.status for trial in state.plan_trials()} == {"done"}
    started = [record.body for record in workplace.records() if isinstance(record.body, TrialStarted)]
    assert len(started) == 8
    order = [state.trials[start.trial].values["task.value"] for start in started]
    assert order.index(0.5) < min(map(order.index, (0.6, 0.7, 0.8, 0.9)))  # none behind it overtook it
    gangs = {state.trials[start.trial].values["task.value"]: start.gang for start in started}
    alone = {gang for value, gang in gangs.items() if value != 0.5}
    assert len(gangs[0.5].split("+")) == 2
    assert set(gangs[0.5].split("+")) <= alone  # warm ranks that met, and went on alone


def test_rules_for_ranks_that_cannot_fit_are_refused(workplace: Workplace) -> None:
    workplace.write(UNEQUAL.replace("task.value: 0.5}", "task.rate: 0.5}"))
    assert "resources.by_config asks for task.rate, which is not searched" in workplace.run("plan", "exp.yaml", code=2)
    workplace.write(UNEQUAL.replace("ranks: 2", "ranks: 999"))
    assert "resources.by_config has trials of 999 ranks" in workplace.run("sweep", "exp.yaml", code=2)
    workplace.write(UNEQUAL.replace("resources: {", "resources: {max_concurrent: 2, "))
    assert "cannot stand beside max_concurrent" in workplace.run("plan", "exp.yaml", code=2)
    workplace.write(UNEQUAL + "  budget: {device_hours: 1}\n")
    assert "sweep.budget.device_hours" in workplace.run("plan", "exp.yaml", code=2)
