"""What ``show NAME/ID`` prints of a trial: its metrics, its artifacts, its recipe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from expflow.cli.views import pictures, result
from expflow.sweep.result_location import ResultLocation
from tests.report.states import sweep, trial
from tests.report.test_artifacts import png, written


def test_artifacts_are_listed_with_their_newest_step_and_where_they_lie(tmp_path, monkeypatch, capsys):
    member = trial({"depth": 8}, 0, "done", {"val/top1": 0.5})
    written(tmp_path, member, "filters", png(), step=1)
    written(tmp_path, member, "filters", png(), step=2)
    written(tmp_path, member, "confusion", b"a,b\n1,2\n").unlink()
    location = ResultLocation(tmp_path, sweep([member]), member.trial)
    monkeypatch.setattr(result, "find_results", lambda name, storage: location)
    monkeypatch.chdir(tmp_path)
    result.show_result("digits/3fa9", None)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "image filters, step 2 (of 2 steps)  trials/0/filters/step-2.png" in lines
    assert "table confusion, step 1  trials/0/confusion/step-1.csv  (missing)" in lines
    assert "val/top1         50.00 %" in lines


@pytest.mark.parametrize("which", [None, "best"])
def test_a_name_alone_shows_the_selected_config(which, tmp_path, monkeypatch, capsys):
    members = [trial({"model.depth": depth}, 0, "done", {"val/top1": depth / 100}) for depth in (8, 20)]
    state = sweep(members, report={}, seeds=(0,))
    monkeypatch.setattr(result, "find_results", lambda name, storage: ResultLocation(tmp_path, state, which))
    result.show_result("digits", None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path.name}/best  depth=20"
    assert "val/top1 20.00 %" in lines[1]


def test_a_name_alone_draws_the_selected_configs_first_seed(tmp_path, monkeypatch):
    members = [trial({"model.depth": 8}, seed, "done", {"val/top1": 0.1 * seed}) for seed in (1, 0)]
    location = ResultLocation(tmp_path, sweep(members, report={}, seeds=(0, 1)))
    drawn = []
    monkeypatch.setattr(pictures, "find_results", lambda name, storage: location)
    monkeypatch.setattr(pictures, "draw_trial_pictures", lambda location, member, **wanted: drawn.append(member) or [])
    monkeypatch.setattr(pictures, "save_trial_pictures", lambda *_: [])
    monkeypatch.setattr(pictures, "write_report", lambda *_: SimpleNamespace(unwritable=""))
    monkeypatch.setattr(pictures, "catch_up_mlflow", lambda *_: None)
    pictures.show_pictures("digits", None, None, filters=True, confusion=False, worst=False)
    assert [member.seed for member in drawn] == [0]
