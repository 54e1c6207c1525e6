"""Several objectives in the report: the front, its growth, page, terminal and document."""

import json
from dataclasses import asdict

import pytest

from expflow.report import build_view, write_report
from expflow.report.charts.sections import chart_sections
from expflow.report.leaderboard import rank_configs
from expflow.report.pareto_section import pareto_front
from expflow.report.terminal import terminal_text
from tests.report.states import digits, sweep, trial

TWO = ({"metric": "val/top1", "mode": "max"}, {"metric": "cost/macs", "mode": "min"})
POINTS = {"tiny": (0.5, 10.0), "lost": (0.4, 50.0), "mid": (0.8, 50.0), "same": (0.8, 50.0), "big": (0.9, 110.0)}
SPACE = ({"key": "net", "kind": "choice", "values": list(POINTS)},)


def state_of(points=POINTS, **changes):
    trials = []
    for place, (name, (top1, macs)) in enumerate(points.items()):
        entry = trial({"net": name}, 0, "done", {"val/top1": top1, "cost/macs": macs}, seconds=2.0)
        entry.ended_at += place
        trials.append(entry)
    return sweep(trials, **{"space": SPACE, "report": {}, "seeds": (0,), "objectives": TWO, **changes})


def front_of(state):
    return pareto_front(rank_configs(state), state.header)


def test_the_front_holds_what_none_dominates_and_equal_configs_together():
    front = front_of(state_of())
    assert [member.values["net"] for member in front.members] == ["big", "mid", "same", "tiny"]
    assert (front.ideal, front.reference, front.configs) == ((0.9, 10.0), (0.4, 110.0), 5)
    assert front.table.rows[0][:2] == ("net=big", "90.00 %")
    assert "4 configs of 5 are dominated by none" in front.notes[0]
    assert "one seed" in front.notes[-1]


def test_the_hypervolume_grows_with_each_config_that_changes_the_front():
    growth = front_of(state_of()).growth
    assert [(step.configs, step.seconds) for step in growth] == [(1, 2.0), (3, 6.0), (5, 10.0)]
    assert [step.hypervolume for step in growth] == pytest.approx([0.2, 0.2 + 0.6 * 0.6, 0.2 + 0.6 * 0.6])


def test_further_seeds_of_a_leader_do_not_put_it_off():
    state = state_of()
    leader = next(entry for entry in state.trials.values() if entry.values == {"net": "tiny"})
    again = trial(leader.values, 1, "done", {"val/top1": 0.6, "cost/macs": 10.0}, seconds=50.0)
    again.phase, again.ended_at = "confirm", leader.ended_at + 100
    state.trials[again.trial] = again
    state.current[again.trial] = None
    growth = front_of(state).growth
    assert [(step.configs, step.seconds) for step in growth] == [(1, 2.0), (3, 6.0), (5, 10.0)]


def test_one_objective_has_no_front_and_neither_has_an_older_ledger():
    assert front_of(state_of(objectives=TWO[:1])) is None
    assert front_of(state_of(objectives=())) is None
    assert front_of(digits()) is None
    assert front_of(state_of({}, expected_trials=1)) is None


def test_a_config_without_the_second_metric_is_not_compared():
    state = state_of()
    bare = trial({"net": "bare"}, 0, "done", {"val/top1": 1.0})
    state.trials[bare.trial] = bare
    state.current[bare.trial] = None
    front = front_of(state)
    assert front.configs == 5
    assert "net=bare" not in {member.label for member in front.members}


def test_page_terminal_and_document_show_it(tmp_path):
    state = state_of()
    view = build_view(tmp_path, state)
    charts = chart_sections(view, state, tmp_path).pareto
    assert [chart.name for chart in charts] == ["pareto-1", "hypervolume"]
    dominated, front = charts[0].traces
    assert (dominated["x"], front["x"]) == ([50.0], [10.0, 50.0, 50.0, 110.0])
    assert "net=big" in terminal_text(view).split("Pareto front:")[1]
    write_report(tmp_path, state)
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Pareto front</h2>" in page
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["pareto"] == json.loads(json.dumps(asdict(view.pareto)))
    assert document["pareto"]["growth"][-1]["configs"] == 5


def test_three_objectives_have_a_chart_for_each_beside_the_first(tmp_path):
    three = (*TWO, {"metric": "cost/params", "mode": "min"})
    state = state_of()
    for place, entry in enumerate(state.trials.values()):
        entry.reports[-1].metrics["cost/params"] = float(5 - place)
    state.header = type(state.header)(**{**state.header.__dict__, "objectives": three})
    charts = chart_sections(build_view(tmp_path, state), state, tmp_path).pareto
    assert [chart.name for chart in charts] == ["pareto-1", "pareto-2", "hypervolume"]
    assert charts[0].traces[1]["mode"] == "markers"
