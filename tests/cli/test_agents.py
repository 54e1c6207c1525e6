"""A program that knows docs/agents.md alone: it finds the better of two recipes, and calls no equal one better."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from expflow import cli
from expflow.sweep.in_process import run_in_process

pytestmark = pytest.mark.timeout(300)  # torch is imported, and machines are shared

DOCUMENT = Path(__file__).parents[2] / "docs" / "agents.md"
RECIPE = """\
about: {{question: Is {hidden} wide enough?, expect: {expect}}}
data: {{name: digits, batch_size: 100, limit: 300}}
model: {{name: mlp, hidden: {hidden}}}
task: classification
loss: cross_entropy
optimizer: {{name: sgd, lr: {lr}, momentum: 0.9}}
trainer: {{epochs: 2}}
sweep: {{seeds: {seeds}}}
"""


class Program:
    """Runs commands, and reads what they answer."""

    def __init__(self, capsys):
        self._capsys = capsys

    def __call__(self, *words):
        with pytest.raises(SystemExit) as left:
            cli.main([*words, "--json"])
        printed = self._capsys.readouterr()
        code = int(left.value.code or 0)
        text = printed.out if code in (0, 10, 11) else printed.err
        try:
            return code, json.loads(text)
        except ValueError:
            return code, json.loads(text.splitlines()[-1])  # one object a line: the last one counts

    def attempt(self, file, against, campaign="width", *more):
        return self("sweep", file, "--against", against, "--campaign", campaign, "--exit-code", *more)


def without_ray(plan, *, template=None, **options):
    return run_in_process(plan, **options)


@pytest.fixture
def program(tmp_path, monkeypatch, capsys, tmp_path_factory):
    class Nobody:
        def finish(self, timeout_seconds):
            return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: Nobody())
    monkeypatch.setattr("expflow.sweep.driver.run_sweep", without_ray)  # seconds for each call
    monkeypatch.setattr("expflow.cli.views.run.import_ray_meanwhile", lambda plan: None)
    for name, hidden, lr, expect in (
        ("narrow", 2, 0.05, "no"),
        ("wide", 64, 0.05, "far better"),
        ("same", 65, 0.05, "nothing"),  # other weights, and in truth no better: with equal ones there is no noise
    ):
        (tmp_path / f"{name}.yaml").write_text(RECIPE.format(hidden=hidden, lr=lr, expect=expect, seeds=3))
    return Program(capsys)


def test_the_loop_of_the_document(program, tmp_path):
    assert len(program("plan", "narrow.yaml", "--no-time")[1]["trials"]) == 3
    code, ended = program("sweep", "narrow.yaml")
    assert (code, ended["document"], ended["done"]) == (0, "ended", 3)
    assert program("report", "narrow")[1]["trials"]["complete"]

    code, better = program.attempt("wide.yaml", "narrow/best")
    attempt = better["tries"][0]
    assert (code, better["verdict"], attempt["seeds"]) == (0, "better", [3, 4, 5])  # seeds that chose nothing
    assert attempt["hypothesis"] == "Is 64 wide enough?; far better"
    assert better["next"][0]["arguments"] == ["--against", "wide/best"]

    code, equal = program.attempt("same.yaml", "wide/best", "width", "--margin", "0.05")
    assert (code, equal["verdict"]) in ((10, "not_better"), (11, "not_resolved"))
    assert [attempt["number"] for attempt in equal["tries"]] == [1, 2]

    again, answered = program.attempt("same.yaml", "wide/best", "width", "--margin", "0.05")
    assert (again, len(answered["tries"])) == (code, 2)  # the same try is the same try

    _, elsewhere = program.attempt("wide.yaml", "narrow/best", "another")
    assert elsewhere["answered_from"]  # nothing was trained again
    listed = program("report", "--campaign", "width")[1]
    assert [attempt["result"]["verdict"] for attempt in listed["tries"]] == ["better", equal["verdict"]]


def test_the_file_of_the_document_can_be_planned(program, tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "rates.yaml").write_text(example)
    plan = program("plan", "rates.yaml", "--no-time", "--no-check")[1]
    assert (len(plan["trials"]), [asked["metric"] for asked in plan["resolves"]]) == (10, ["val/top1"])
    assert [step["action"] for step in plan["next"]] == ["sweep"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("narrow.yaml", "--against", "narrow/best"), "go together"),
        (("narrow.yaml", "--against", "narrow/best", "--campaign", "c"), "the same config"),
        (("wide.yaml", "--set", "sweep.seeds=1", "--against", "narrow/best", "--campaign", "c"), "needs two or more"),
        (("wide.yaml", "--set", "data.split_seed=1", "--against", "narrow/best", "--campaign", "c"), "different data"),
        (("wide.yaml", "--set", "sweep.metric=val/loss", "--against", "narrow/best", "--campaign", "c"), "judged by"),
        (
            ("wide.yaml", "--set", "sweep.space={model.hidden: [1, 2]}", "--against", "x", "--campaign", "c"),
            "one config",
        ),
        (("wide.yaml", "--against", "nothing/best", "--campaign", "c"), "no results of nothing"),
    ],
)
def test_what_cannot_be_compared_is_an_error(program, words, message):
    program("sweep", "narrow.yaml")
    code, error = program("sweep", *words)
    assert (code, error["document"]) == (2, "error")
    assert message in error["message"]


def test_a_reference_whose_file_was_edited_is_refused(program, tmp_path):
    program("sweep", "narrow.yaml")
    (tmp_path / "narrow.yaml").write_text((tmp_path / "narrow.yaml").read_text().replace("hidden: 2", "hidden: 3"))
    code, error = program.attempt("wide.yaml", "narrow/best")
    assert code == 2
    assert "it was edited since" in error["message"]
