"""The tags that a report's verdicts become."""

import json

import pytest

from expflow.tracking.notes import read_report
from expflow.tracking.verdict_tags import verdict_tags


def test_answers_and_the_best_become_tags(tmp_path):
    answers = [
        {"verdict": "opposite", "resolution": "resolved", "holds_for": "other_images", "claim": "a higher than b"},
        {"verdict": "in_progress"},
    ]
    best = {"configs": 8, "tried": 12, "score": 0.98, "low": 0.97, "high": 0.985, "why": ""}
    (tmp_path / "report.json").write_text(json.dumps({"answers": answers, "best": best}))
    tags = verdict_tags(read_report(tmp_path / "report.json"))
    assert tags["expflow.answer.1.holds_for"] == "other_images"
    assert tags["expflow.answer.2.verdict"] == "in_progress"
    assert tags["expflow.best.tried"] == "12"
    assert tags["expflow.best.score"] == "0.98"
    assert len(tags) == 4 + 1 + 5


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"answers": 3, "best": []}', '{"answers": [1]}'])
def test_what_is_no_report_gives_no_tags(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    assert verdict_tags(read_report(tmp_path / "report.json")) == {}
    assert verdict_tags(read_report(tmp_path / "gone.json")) == {}
