"""Children that are not trained: beyond a limit, or of which nothing can be built for the image."""

import pytest

from expflow.errors import ExperimentInvalid
from expflow.sweep.driver import replay
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.network_limits import identify
from expflow.sweep.search_builders import build_search_state
from expflow.sweep.trial_expansion import proposed_configs
from tests.sweep.stage import Stage

FILE = """
data: digits
model: {{name: child, padding: {padding}}}
task: classification
optimizer: {{name: sgd, lr: 0.1}}
trainer: {{epochs: 1}}
sweep:
  space:
    model.layers: {{layers: {{count: [1, 2], height: [1, 3, 5], width: [3, 5], stride: [1, 2], filters: [4, 16]}}}}
  limits: {{{limits}}}
  searcher: {{name: {searcher}, trials: 12}}
"""


def plan_of(folder, limits="", padding="same", searcher="random"):
    return Stage(folder, FILE.format(limits=limits, padding=padding, searcher=searcher)).plan()


def test_only_children_within_the_limits_are_proposed(tmp_path):
    plan = plan_of(tmp_path, "params: 1000, macs: 20000")
    configs = list(proposed_configs(plan))
    assert len(configs) == 12
    assert all(identify(plan, values) for values in configs)
    wide = {**configs[0], "model.layers.count": 1, "model.layers.1.filters": 16, "model.layers.1.stride": 1}
    wide = {key: value for key, value in wide.items() if ".2." not in key}
    wide |= {"model.layers.1.height": 5, "model.layers.1.width": 5}
    with pytest.raises(ExperimentInvalid, match=r"limits\.macs is 20,000, and the network has 25,760 multiply-adds"):
        identify(plan, wide)


def test_a_limit_that_nothing_satisfies_is_named_at_its_place(tmp_path):
    with pytest.raises(ExperimentInvalid) as raised:
        list(proposed_configs(plan_of(tmp_path, "params: 10")))
    (problem,) = raised.value.problems
    assert (problem.key, problem.line) == ("sweep.limits", 10)
    assert "limits.params is 10, and the network has" in problem.message


@pytest.mark.parametrize("searcher", ["controller", "evolution", "local", "predictor"])
def test_children_of_which_nothing_is_left_are_passed_over(tmp_path, searcher):
    """Without padding, two layers of 5 pixels leave nothing of 8."""
    plan = plan_of(tmp_path, padding="valid", searcher=searcher)
    search = build_search_state(plan)
    state, _ = replay(plan, [])
    header = ledger_header(plan, tracking="", code={}, before=None)
    search.begin(header, state)
    for _ in range(12):
        assert search.suggest(state) is not None
    assert not search.closed


def test_without_a_child_that_can_be_built_the_plan_says_so(tmp_path):
    text = FILE.format(limits="", padding="valid", searcher="evolution").replace("[1, 3, 5]", "[9]")
    with pytest.raises(ExperimentInvalid, match="leaves nothing of the 8x8 pixels"):
        list(proposed_configs(Stage(tmp_path, text).plan()))


def test_limits_change_the_search_and_their_absence_changes_no_key(tmp_path):
    keys = []
    for place, limits in enumerate(("", "params: 1000", "params: 2000")):
        folder = tmp_path / str(place)
        folder.mkdir()
        keys.append((plan_of(folder, limits).digest, plan_of(folder, limits).search_key))
    assert len({digest for digest, _ in keys}) == len({key for _, key in keys}) == 3
