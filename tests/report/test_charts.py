"""The charts of the page as data: what they hold, and that plotly takes them."""

from __future__ import annotations

import json

import plotly.graph_objects
import pytest

from expflow.ledger.state import AttemptSpan
from expflow.report import build_view, parameter_importance, write_report
from expflow.report.charts.chart import chart_text
from expflow.report.charts.cost_charts import pareto_front
from expflow.report.charts.sections import chart_sections
from expflow.report.curve_diagnosis import curve_diagnoses
from expflow.report.leaderboard import rank_configs
from expflow.report.parameter_importance import search_importance
from tests.report.states import digits, sweep, trial

WIDE = ({"key": "lr", "kind": "loguniform", "low": 1e-4, "high": 1.0}, {"key": "noise", "kind": "uniform"})


def sections(folder, state):
    importance = search_importance(rank_configs(state), state.header)
    return chart_sections(build_view(folder, state), state, folder, importance)


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return sections(tmp_path_factory.mktemp("depth"), digits())


def searched(count: int = 40):
    """A search in which the rate decides and the other key does nothing."""
    trials = []
    for at in range(count):
        rate = 10 ** (-4 * ((at * 7) % count) / count)
        values = {"lr": rate, "noise": (at * 11 % count) / count}
        metrics = {"val/top1": 0.9 - 0.1 * abs(at * 7 % count - count / 2) / count, "cost/seconds": 1.0 + at}
        trials.append(trial(values, 0, "done", metrics))
    return sweep(trials, space=WIDE, report={})


def test_plotly_takes_every_chart(depth, tmp_path):
    for shown in (depth, sections(tmp_path, searched())):
        charts = shown.all()
        assert len({chart.name for chart in charts}) == len(charts)
        for chart in charts:
            plotly.graph_objects.Figure({"data": list(chart.traces), "layout": dict(chart.layout)})  # checks each key
            json.dumps([chart.traces, chart.layout], allow_nan=False)
            assert chart.alt


def test_the_sections_of_the_depth_sweep(depth):
    shown = depth
    assert [chart.name for chart in shown.figures] == ["val_top1-by-model_depth", "fit_loss-by-model_depth"]
    assert [chart.title for chart in shown.learning] == [
        "train/loss over training",
        "val/loss over training",
        "val/top1 over training",
    ]
    assert [chart.name for chart in shown.search] == ["parallel", "slice-0", "slice-1"]
    assert [chart.name for chart in shown.trade_offs] == ["trade-off-macs", "trade-off-params", "trade-off-seconds"]


def test_a_point_says_its_config_its_value_and_its_seeds(depth):
    means = depth.figures[0].traces[0]
    assert means["name"] == "shortcut=none"
    text = means["hovertext"][-1].split("<br>")
    assert text[:2] == ["shortcut=none", "model.depth = 56"]
    assert text[2].startswith("val/top1 4")
    assert text[3].startswith("n = 3: ")
    assert len(text[3].split(",")) == 3


def test_the_curves_say_the_diagnosis_over_a_point(depth):
    diagnoses = {diagnosis.label: diagnosis.title for diagnosis in curve_diagnoses(digits())}
    lines = [trace for trace in depth.learning[0].traces if trace.get("hovertext")]
    assert len(lines) == 8
    for line in lines:
        assert line["hovertext"][-1].endswith(diagnoses[line["name"]])


def test_what_decides_is_more_important_than_what_does_nothing(tmp_path):
    state = searched()
    importance = search_importance(rank_configs(state), state.header)
    first, last = importance.keys
    assert (importance.configs, first.key, last.key) == (40, "lr", "noise")
    assert first.fanova > 0.5 > last.fanova
    assert first.ped_anova > last.ped_anova
    assert search_importance(rank_configs(state), state.header) == importance
    chart = sections(tmp_path, state).search[0]
    assert (chart.name, chart.layout["yaxis"]["ticktext"]) == ("importance", ["noise", "lr"])


@pytest.mark.parametrize("listed", [range(40), [f"net {at * 7 % 40}" for at in range(40)]], ids=["sizes", "names"])
def test_keys_of_many_listed_values_have_their_importance(listed):
    """Optuna's fANOVA alone goes through two to the power of 40 combinations here, and never ends."""
    space = ({"key": "listed", "kind": "choice", "values": list(listed)}, WIDE[1])
    trials = [
        trial({"listed": listed[at * 7 % 40], "noise": (at * 11 % 80) / 80}, 0, "done", {"val/top1": at * 7 % 40 / 80})
        for at in range(80)
    ]
    state = sweep(trials, space=space, report={})
    first, last = search_importance(rank_configs(state), state.header).keys
    assert (first.key, last.key) == ("listed", "noise")
    assert first.fanova > 0.8 > 0.2 > last.fanova
    assert first.ped_anova > last.ped_anova


def test_importance_is_computed_once_for_the_same_configs(tmp_path, monkeypatch):
    state = searched()
    first = write_report(tmp_path, state)
    assert [row["key"] for row in first.document["importance"]["keys"]] == ["lr", "noise"]

    def evaluated(*_):
        raise AssertionError("it is in report.json")

    with monkeypatch.context() as patched:
        patched.setattr(parameter_importance, "_evaluated", evaluated)
        before = first.html.read_bytes(), first.data.read_bytes()
        again = write_report(tmp_path, state)
        assert (again.html.read_bytes(), again.data.read_bytes()) == before
        with pytest.raises(AssertionError, match=r"report\.json"):
            write_report(tmp_path, searched(39))
    for damage in (b"{", b"[]", b'{"importance": null}', b'{"importance": {"inputs": 5}}'):
        first.data.write_bytes(damage)
        assert write_report(tmp_path, state).document == first.document


@pytest.mark.parametrize(
    "state",
    [searched(19), sweep([trial({"lr": at / 30, "noise": at}, 0, "done", {"val/top1": 0.5}) for at in range(30)])],
    ids=["too few", "all equal"],
)
def test_nothing_is_said_of_importance_where_nothing_can_be(state):
    assert search_importance(rank_configs(state), state.header) is None


def test_the_pareto_front():
    costs, values = [3.0, 1.0, 2.0, 2.0, 4.0], [0.9, 0.5, 0.7, 0.4, 0.8]
    assert pareto_front(costs, values, "max") == [1, 2, 0]
    assert pareto_front(costs, values, "min") == [1, 3]


def ran(seed: int, *spans: AttemptSpan, status: str = "done", failure=None):
    state = trial({"a": 1}, seed, status, {"val/top1": 0.5}, failure=failure)
    state.spans.extend(spans)
    return state


def test_the_time_line_says_why_each_ended_and_leaves_breaks_out(tmp_path):
    day = 86_400.0
    trials = [
        ran(0, AttemptSpan(1, "gang-1", 1000.0, 1100.0, "done")),
        ran(1, AttemptSpan(1, "gang-2", 1000.0, 1050.0, "code"), status="failed", failure=("code", "ValueError: <no>")),
        ran(
            2, AttemptSpan(1, "gang-2", 1060.0, 1100.0, "interrupted"), AttemptSpan(2, "gang-1", day, day + 60, "done")
        ),
    ]
    (chart,) = sections(tmp_path, sweep(trials, report={})).time_line
    bars = {trace["name"]: trace for trace in chart.traces}
    assert sorted(bars) == ["done", "failed", "interrupted"]
    assert bars["failed"]["hovertext"] == ["a=1 s1<br>attempt 1 on gang-2, 50.0 s<br>code: ValueError: &lt;no&gt;"]
    assert bars["failed"]["y"] == [2]
    assert bars["interrupted"]["y"] == [2], "the slot that was free again"
    assert bars["done"]["base"] == [0.0, 100.0], "a day without training is no part of the axis"
    assert "1 break of 23 h" in chart.caption


def test_texts_stay_texts_in_charts(tmp_path):
    evil = "<b onmouseover=alert(1)>&lt;"
    trials = [
        trial({"model": model, "width": at}, seed, "done", {"val/top1": 0.5 + at / 10, evil: 1.0, "cost/params": at})
        for at, model in enumerate((evil, "b", "c"))
        for seed in (0, 1)
    ]
    trials[0].spans.append(AttemptSpan(1, evil, 1.0, 2.0, "done"))
    figure = {"x": "model", "y": evil, "line": "width"}
    for chart in sections(tmp_path, sweep(trials, report={"figures": [figure]})).all():
        text = json.dumps([chart.traces, chart.layout])
        assert "<b" not in text.replace("<br>", "")
    assert chart_text(evil) == "&lt;b onmouseover=alert(1)&gt;&amp;lt;"
