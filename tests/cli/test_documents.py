"""What commands answer to programs: every answer validates against its schema, and the schemas are frozen.

Where a change of a schema is a decision, `.venv/bin/python -m tests.cli.test_documents` writes document_schemas.json
anew; a field that changes its meaning or goes away raises the document's version, too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest

from expflow import cli, errors
from expflow.cli.documents.error import error_document
from expflow.cli.documents.schemas import DOCUMENTS, document_schema
from expflow.cli.views import running_sweep
from expflow.errors import ExperimentInvalid, ExpflowError, Interrupted, Problem, UnknownName
from expflow.events import AttemptFailed, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import Ledger
from expflow.plain_data import plain_data
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.plan import make_plan
from tests.report.states import CONTRASTS, header

FROZEN = Path(__file__).with_name("document_schemas.json")
NAMES = sorted((*DOCUMENTS, "event"))

PLAN = """\
data: {name: digits, batch_size: 100, limit: 400}
model: {name: mlp, hidden: 8}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2}
sweep:
  space: {model.hidden: [4, 32]}
  seeds: 3
report:
  contrasts:
    - {metric: val/top1, of: {model.hidden: 32}, against: {model.hidden: 4}, expect: higher}
"""

SCRIPTED = """\
task:
  name: scripted
  script: [{report: {val/top1: 0.5, val/loss: 1.25}}, {report: {val/top1: 0.75}}]
"""


def schemas():
    return {name: document_schema(name) for name in NAMES}


def valid(answer, name):
    """The answer, which fits the schema of its name."""
    jsonschema.Draft202012Validator(document_schema(name)).validate(answer)
    return answer


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Type a command; returns its exit code, what it printed and what it complained of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words):
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return int(left.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def results(tmp_path):
    """A depth sweep of three seeds, of which one diverged."""
    folder = tmp_path / "runs" / "resnet_depth"
    ledger = Ledger.open(folder, header(command="expflow sweep experiments/resnet_depth.yaml", expected_trials=12))
    for depth in (20, 56):
        for shortcut in ("none", "pad"):
            config, values = f"c{depth}{shortcut}", {"model.depth": depth, "model.shortcut": shortcut}
            for seed in range(3):
                trial = f"{depth}{'a' if shortcut == 'none' else 'b'}{seed}"
                recipe = {"model": {"name": "my_net:Net", "depth": depth, "shortcut": shortcut}}
                ledger.append(TrialProposed(trial, config, seed, values, recipe, {"trainer.epochs": 10}))
                ledger.append(TrialStarted(trial, 1, "g0"))
                if (depth, shortcut, seed) == (56, "none", 2):
                    ledger.append(AttemptFailed(trial, 1, "diverged", "the loss became nan", "Traceback …"))
                    ledger.append(TrialEnded(trial, 1, "failed", 10, 1.5))
                    continue
                loss = 1.5 + seed / 9 if (depth, shortcut) == (56, "none") else 0.01 * (1 + seed)
                metrics = {"val/top1": 0.99 - loss / 3, "fit/loss": loss, "cost/seconds": 2.0, "val/loss": float("nan")}
                ledger.append(TrialReported(trial, 1, 10, metrics, 1.0))
                ledger.append(TrialEnded(trial, 1, "done", 10, 1.5, "ab" * 32))
    ledger.close("finished", {"seconds": 1.0})
    return folder


def test_the_schemas_are_frozen():
    written = json.loads(FROZEN.read_text())
    assert schemas() == written, f"run {sys.executable} -m {__name__} if the change is meant"


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one_and_describes_its_fields(name):
    schema = document_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in (schema, *schema.get("$defs", {}).values(), *schema.get("anyOf", ())):
        for key, entry in part.get("properties", {}).items():
            assert entry.get("description") or "const" in entry, f"{name}: {part.get('title')}.{key} has no description"


def test_the_report(call, results):
    code, out, _ = call("report", "resnet_depth", "--json")
    report = valid(json.loads(out), "report")
    assert code == 0
    assert report == {**json.loads((results / "report.json").read_text()), "folder": str(results)}
    assert [answer["metric"] for answer in report["answers"]] == [contrast["metric"] for contrast in CONTRASTS]
    assert report["answers"][0]["of_seeds"] == {"planned": 3, "lost": 1, "far_out": []}
    assert report["trials"]["failed"] == 1
    assert {path for path in report["files"].values() if not (results / path).is_file()} == set()
    actions = {step["action"]: step["arguments"] for step in report["next"]}
    assert actions["test"] == ["expflow", "test", "resnet_depth"]
    assert actions["read_log"] == ["expflow", "logs", "resnet_depth/56a2"]
    assert actions["retry_failed"][-2:] == ["--retry", "failed"]
    assert actions["add_seeds"][:3] == ["expflow", "sweep", "experiments/resnet_depth.yaml"]


def test_status_of_one_and_of_all(call, results):
    status = valid(json.loads(call("status", "resnet_depth", "--json")[1]), "status")
    assert status["counts"] == {"done": 11, "failed": 1}
    assert (status["complete"], status["running"]) == (True, False)
    lost = next(trial for trial in status["trials"] if trial["state"] == "failed")
    assert (lost["failure"], lost["message"]) == ("diverged", "the loss became nan")
    assert status["trials"][0]["metrics"]["val/loss"] is None  # JSON has no nan
    storage = valid(json.loads(call("status", "--json")[1]), "storage")
    assert [experiment["name"] for experiment in storage["experiments"]] == ["resnet_depth"]


def test_a_config_and_a_trial(call, results):
    best = valid(json.loads(call("show", "resnet_depth/best", "--json")[1]), "result")
    assert (best["kind"], len(best["trials"])) == ("config", 3)
    assert best["value"]["kind"] == "logit"
    assert best["over_images"] is None
    trial = valid(json.loads(call("show", "resnet_depth/56b1", "--json")[1]), "result")
    assert (trial["kind"], trial["trials"][0]["seed"]) == ("trial", 1)
    assert trial["recipe"]["trainer"]["epochs"] == 10


def test_a_comparison(call, results):
    code, out, _ = call("report", "resnet_depth/best", "resnet_depth/56b1", "--json")
    comparison = valid(json.loads(out), "comparison")
    assert code == 0
    assert [result["address"] for result in comparison["results"]] == ["resnet_depth/best", "resnet_depth/56b1"]
    assert "model.depth" in comparison["recipes"]
    assert Path(comparison["page"]).parent == results.parent / "comparisons"
    assert "resnet_depth/56b1" in Path(comparison["page"]).read_text()
    for form, begins in (("--markdown", "| result |"), ("--csv", "result,"), ("--latex", r"\begin{tabular}")):
        assert call("report", "resnet_depth/best", "resnet_depth/56b1", form)[1].startswith(begins)
    assert "they differ in" in call("report", "resnet_depth/best", "resnet_depth/56b1")[1]
    assert call("report", "resnet_depth", "--latex")[0] == 2
    shown = call("show", "resnet_depth/best", "resnet_depth/56b1")[1].splitlines()
    assert shown[0] == "they differ in"
    assert shown[2].split() == ["model.depth", "20", "56"]


def test_a_plan(call, tmp_path):
    (tmp_path / "small.yaml").write_text(PLAN)
    code, out, _ = call("plan", "small.yaml", "--no-time", "--json")
    plan = valid(json.loads(out), "plan")
    assert code == 0
    assert (len(plan["trials"]), plan["left"], plan["forecast"], plan["changes"]) == (6, 6, None, None)
    assert [(step["action"], step["arguments"][:2]) for step in plan["next"]] == [("sweep", ["expflow", "sweep"])]
    (resolves,) = plan["resolves"]
    assert (resolves["metric"], resolves["seeds"], round(resolves["effect"], 1)) == ("val/top1", 3, 3.7)
    assert plan["trials"][0]["params"] > 0


def test_a_training_prints_a_handle_its_events_and_its_end(call, tmp_path, monkeypatch):
    class Nobody:
        def finish(self, timeout_seconds):
            return True

    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: Nobody())
    (tmp_path / "script.yaml").write_text(SCRIPTED)
    code, out, err = call("train", "script.yaml", "--json")
    first, *events, last = (json.loads(line) for line in out.splitlines())
    valid(first, "started")
    assert (first["name"], first["trials"]) == ("script", 1)
    assert [valid(event, "event")["event"] for event in events] == [
        *("proposed", "started", "reported", "reported", "ended")
    ]
    valid(last, "ended")
    assert (code, err, last["ran"], last["done"], last["exit_code"]) == (0, "", 1, 1, 0)
    _, out, _ = call("train", "script.yaml", "--json")  # the same thing again is the same thing
    assert [json.loads(line)["document"] for line in out.splitlines()] == ["started", "ended"]


def test_a_second_start_of_what_runs_is_the_same_thing(call, tmp_path, monkeypatch):
    (tmp_path / "script.yaml").write_text(SCRIPTED)
    plan = make_plan(tmp_path / "script.yaml", alone=True)
    ledger = Ledger.open(plan.folder, ledger_header(plan, tracking="", code={}))
    ledger.append(TrialProposed("3fa9c2d1e0b4", "c", 0, {}, {}))
    asked = []

    def has_live_driver(folder):
        """It ends right after it was seen alive."""
        if not asked:
            ledger.append(TrialEnded("3fa9c2d1e0b4", 1, "done", 2, 1.0))
            ledger.close("finished")
        asked.append(folder)
        return len(asked) == 1

    monkeypatch.setattr(running_sweep, "has_live_driver", has_live_driver)
    monkeypatch.setattr(running_sweep, "WATCH_SECONDS", 0.01)
    code, out, err = call("train", "script.yaml", "--json")
    first, *events, last = (json.loads(line) for line in out.splitlines())
    assert (code, err, valid(first, "started")["already_running"], first["pid"]) == (0, "", True, os.getpid())
    assert [valid(event, "event")["event"] for event in events] == ["ended", "driver_stopped"]
    assert (valid(last, "ended")["ran"], last["done"]) == (1, 1)


def test_schemas_as_typed(call):
    assert json.loads(call("schema", "--of", "report")[1]) == document_schema("report")
    assert "properties" in json.loads(call("schema")[1])
    code, _, err = call("schema", "--of", "raport", "--json")
    assert (code, valid(json.loads(err), "error")["problems"][0]["nearest"]) == (2, "report")


def test_errors_have_their_place_and_what_was_meant(call, tmp_path):
    (tmp_path / "small.yaml").write_text(PLAN.replace("hidden: 8", "hiden: 8").replace("mlp", "mlpp", 1))
    code, out, err = call("plan", "small.yaml", "--json")
    error = valid(json.loads(err), "error")
    assert (code, out, error["error"], error["exit_code"]) == (2, "", "ExperimentInvalid", 2)
    problem = error["problems"][0]
    assert (problem["file"], problem["line"], problem["key"], problem["nearest"]) == (
        "small.yaml",
        2,
        "model.name",
        "mlp",
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("status", "nothing", "--json"), "AddressUnknown"),
        (("report", "--json"), "UsageError"),
        (("report", "resnet_depth", "--json", "--nonsense"), "UsageError"),
        (("nonsense", "--json"), "UsageError"),
        (("show", "resnet_depth/ff", "--json"), "AddressUnknown"),
    ],
)
def test_wrong_calls_are_errors_in_json(call, results, words, name):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert valid(json.loads(err), "error")["error"] == name


def raised(kind):
    if kind is ExperimentInvalid:
        return kind([Problem("a.yaml", 1, 2, "model", "unknown key; nearest valid key: x")])
    if kind is UnknownName:
        return kind("model", "resnt", ["resnet"])
    return kind("gone", signal_number=2) if kind is Interrupted else kind("what happened, where, and what to do")


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ExpflowError)]


@pytest.mark.parametrize("kind", [*KINDS, RuntimeError], ids=lambda kind: kind.__name__)
def test_an_error_of_every_class_is_one_object(kind):
    error = raised(kind) if kind in KINDS else kind("broken")
    document = valid(plain_data(error_document(error)), "error")
    assert document["exit_code"] == getattr(error, "exit_code", 1)
    assert document["error"] == (kind.__name__ if kind in KINDS else "Bug")
    assert document["problems"]


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(schemas(), indent=1) + "\n")
