"""The model of the report is plain data: json writes it, and nothing is left out."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from expflow.report import ReportView, build_view
from tests.report.states import digits
from tests.report.test_page import EDGES


def test_everything_that_the_page_shows_is_in_the_json():
    view = build_view(Path("no such folder"), digits())
    data = json.loads(json.dumps(view.to_json(), allow_nan=False))
    assert set(data) == {field.name for field in fields(ReportView)}
    assert len(data["leaderboard"]["rows"]) == 8
    assert [answer["verdict"] for answer in data["answers"]] == ["as_expected"] * 3
    assert data["figures"][0]["lines"][0]["points"][0]["estimate"]["n"] == 3
    assert set(data["learning"]["panels"][0]["curves"]) == {"train/loss", "val/loss", "val/top1"}
    assert dict(data["facts"])["trials"] == "24 of 24 trials done"
    assert data["test"] is None


@pytest.mark.parametrize("name", EDGES)
def test_every_state_has_a_view_that_json_writes(name):
    json.dumps(build_view(Path("no such folder"), EDGES[name]).to_json(), allow_nan=False)
