"""A search by a controller whose driver is killed at random moments, beside a controller that nothing happened to.

The ledger that the killed drivers left is told to a fresh controller, event by event: each of its next children has to
be the one that was proposed, and its weights in the end those of a replay.

`python -m tests.faults.killed_searches --kills 20` takes minutes; the suite kills twice.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from expflow.config.schema import Dimension
from expflow.events import TrialEnded, TrialProposed
from expflow.ledger import load_state
from expflow.search.controller import ControllerSearch
from expflow.search.specs import ControllerSpec
from expflow.sweep.driver import recorded_lines, replay
from expflow.sweep.plan import make_plan
from expflow.sweep.searchers import Learned
from tests.faults.killed_sweeps import kill_until_done
from tests.sweep.runs import Workplace

SEARCHED = """
task:
  name: scripted
  script: [{{sleep: 0.1}}, {{report: {{val/top1: curve}}, repeat: 2}}]
trainer: {{epochs: 2}}
resources: {{max_concurrent: 2}}
sweep:
  space: {{task.value: {values}, task.rate: [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}}
  searcher: {{name: controller, trials: {trials}, batch: 3, seed: 5}}
  metric: val/top1
"""


def write_search(workplace: Workplace, trials: int) -> None:
    """The experiment."""
    workplace.write(SEARCHED.format(trials=trials, values=[round(0.02 * step, 2) for step in range(1, 41)]))


def check_search(workplace: Workplace, trials: int) -> ControllerSearch:
    """Every child is the one that a controller without any kill proposes after the same results; gives that one."""
    state = load_state(workplace.results)
    assert [trial.status for trial in state.plan_trials()] == ["done"] * trials
    assert state.header is not None
    space = tuple(Dimension.model_validate(dict(one)) for one in state.header.space)
    control = ControllerSearch(ControllerSpec(trials=trials, batch=3, seed=5), space, "max")
    proposed: dict[str, dict[str, Any]] = {}
    ended = set[str]()
    for record in workplace.records():
        match record.body:
            case TrialProposed(config=config, values=values) if config not in proposed:
                assert control.suggest() == values, f"child {len(proposed) + 1} is another one"
                proposed[config] = values
            case TrialEnded(trial=trial) if trial not in ended:
                ended.add(trial)
                learned = Learned("complete", state.trials[trial].metrics["val/top1"])
                control.complete(proposed[state.trials[trial].config], learned)
    return control


def check_weights(workplace: Workplace, control: ControllerSearch) -> None:
    """A driver that starts now has the weights of the controller that nothing happened to."""
    plan = make_plan(workplace.folder / "exp.yaml", storage=workplace.folder / "runs")
    _, search = replay(plan, recorded_lines(plan))
    replayed = search._searcher
    assert isinstance(replayed, ControllerSearch)
    for name, weights in control.policy.parameters.items():
        assert np.array_equal(weights, replayed.policy.parameters[name]), name
    assert control.suggest() == replayed.suggest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workplace, trials = Workplace(Path(folder)), 6 * asked.kills
        write_search(workplace, trials)
        killed = kill_until_done(workplace, asked.kills, asked.seed)
        check_weights(workplace, check_search(workplace, trials))
        drivers = len(list((workplace.results / "ledger").glob("*.jsonl")))
    print(f"killed {killed} times, {drivers} drivers: {trials} children, each the next of one controller")


if __name__ == "__main__":
    main()
