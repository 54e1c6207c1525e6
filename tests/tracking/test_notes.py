"""What MLflow's pages say in words, and which charts they open with."""

from __future__ import annotations

import json

from expflow.tracking.chart_layout import LONGEST_VALUE, saved_view
from expflow.tracking.notes import LONGEST_NOTE, config_note, model_note, sweep_note
from tests.tracking.stories import header

REPORT = {
    "name": "depth",
    "question": "Does depth hurt?",
    "metric": "val/top1",
    "answers": [{"verdict": "opposite", "sentence": "depth=56 is lower than depth=20."}],
    "leaderboard": [
        {
            "rank": 1,
            "config": "c20",
            "values": {"model.depth": 20},
            "value": {"mean": 0.985, "n": 3, "low": 0.97, "high": 0.99},
            "lost": [],
        },
        {"rank": 2, "config": "c56", "values": {"model.depth": 56}, "value": {"mean": 0.4, "n": 1}, "lost": [2]},
        {"rank": None, "config": "c8", "values": {"model.depth": 8}, "value": None, "lost": [0, 1]},
    ],
}


def test_a_sweeps_page_has_the_question_and_the_answers():
    note = sweep_note({"question": "Does depth hurt?", "expect": "No."}, REPORT)
    assert note == (
        "**Does depth hurt?**\n\nExpected: No.\n\n- **The opposite.** depth=56 is lower than depth=20.\n\n"
        "Selected: depth=20. Rank 1 of 2: val/top1 98.50 % [97.00, 99.00], n = 3."
    )
    assert sweep_note({}, {}) == ""


def test_the_outcome_is_said_once():
    answer = {"verdict": "as_expected", "sentence": "depth=56 is lower than depth=20. As expected."}
    assert sweep_note({}, {"answers": [answer]}) == "- **As expected.** depth=56 is lower than depth=20."


def test_a_configs_page_has_its_place():
    assert config_note(REPORT, "c56") == "Rank 2 of 2: val/top1 40.00 %, n = 1. Without a value: s2."
    assert config_note(REPORT, "c8") == "No seed of it is at full budget. Without a value: s0, s1."
    assert config_note(REPORT, "other") == config_note({}, "c8") == ""


def test_a_models_page_says_that_a_selected_one_looks_better_than_it_is():
    assert "optimistic" in model_note(REPORT, "c20", "t20s0")
    assert "optimistic" not in model_note(REPORT, "c56", "t56s0")
    assert "Trial `t56s0` of `depth`." in model_note(REPORT, "c56", "t56s0")


def test_a_page_is_cut_where_mlflow_would_refuse_it():
    long = {**REPORT, "answers": [{"verdict": "opposite", "sentence": "x" * 400}] * 50}
    assert len(sweep_note({}, long)) == LONGEST_NOTE


def test_the_view_opens_with_what_was_asked():
    asked = header(space=({"key": "model.depth"}, {"key": "model.shortcut"}), metric="val/top1")
    view = json.loads(saved_view(asked, "s1", 1.5))
    assert (view["name"], view["createdAt"]) == ("expflow: configs of depth", 1500)
    state = json.loads(view["state"])
    first, second, *_ = state["compareRunCharts"]
    assert (first["type"], first["metricKey"]) == ("BAR", "final/val_top1")
    assert second["selectedParams"] == ["model.depth", "model.shortcut"]
    places = [section["uuid"] for section in state["compareRunSections"]]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == set(places)
    assert places[0] == first["metricSectionId"]
    assert state["orderByKey"] == "metrics.`final/val_top1`"
    assert "role` = 'config'" in state["searchFilter"]


def test_one_seed_and_a_loss_are_compared_by_trials_upwards():
    state = json.loads(json.loads(saved_view(header(seeds=(0,), metric="val/loss", mode="min"), "s", 0.0))["state"])
    assert state["orderByAsc"] is True
    assert state["compareRunCharts"][0]["metricKey"] == "val/loss"
    assert "role` = 'trial'" in state["searchFilter"]


def test_a_view_fits_into_a_tag():
    wide = header(space=tuple({"key": f"model.{'x' * 240}{number}"} for number in range(20)), metric="val/" + "m" * 240)
    assert len(saved_view(wide, "s1", 0.0)) <= LONGEST_VALUE
