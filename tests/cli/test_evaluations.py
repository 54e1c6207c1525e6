"""Looks at the test split as typed: counted, refused, asked for again; and that no kill loses or invents one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import jsonschema
import pytest

from expflow import cli
from expflow.cli.documents.schemas import document_schema
from expflow.ledger import load_state
from expflow.ledger.salvage import salvage
from expflow.report.prediction_files import read_predictions
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan

pytestmark = pytest.mark.timeout(300)  # torch is imported three times, and machines are shared

FILE = """\
data: {name: digits, batch_size: 100, limit: 400}
model: {name: mlp, hidden: 8}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
trainer: {epochs: 2}
sweep:
  space: {model.hidden: [4, 32]}
  seeds: 2
report:
  contrasts:
    - {metric: val/top1, of: {model.hidden: 32}, against: {model.hidden: 4}, expect: higher}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep of two configs with two seeds each, made without Ray."""
    place = tmp_path_factory.mktemp("swept")
    (place / "digits.yaml").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(sys, "path", list(sys.path))
        run_in_process(make_plan(place / "digits.yaml", storage=place / "runs"))
    return place


@pytest.fixture
def place(swept, tmp_path, tmp_path_factory, monkeypatch):
    shutil.copytree(swept / "runs", tmp_path / "runs")
    shutil.copy(swept / "digits.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for view in ("test_evaluation", "pictures"):  # MLflow has a test of its own
        monkeypatch.setattr(f"expflow.cli.views.{view}.catch_up_mlflow", lambda console, location: None)
    return tmp_path


@pytest.fixture
def call(place, capsys):
    def run(*words):
        try:
            cli.main([str(word) for word in words])
        except SystemExit as left:
            code = int(left.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


def evaluations(place, name="digits"):
    return load_state(place / "runs" / name).split_evaluations


def trial_folder(place, trial):
    return next((place / "runs/digits/trials").glob(f"*-{trial}"))


def test_the_selected_config_is_evaluated_once_and_recorded(place, call):
    code, out, err = call("test", "digits")
    assert (code, err) == (0, "")
    (evaluation,) = evaluations(place)
    state = load_state(place / "runs/digits")
    wide = [trial for trial in state.plan_trials() if trial.values == {"model.hidden": 32}]
    assert (evaluation.number, evaluation.again, evaluation.split, evaluation.config) == (
        1,
        False,
        "test",
        wide[0].config,
    )
    assert sorted(evaluation.metrics) == sorted(trial.trial for trial in wide)
    assert evaluation.data == state.header.data["manifest"]
    mean = sum(row["test/top1"] for row in evaluation.metrics.values()) / 2
    assert f"{100 * mean:.2f} %" in out
    assert "There was 1 evaluation on the test split (100 images)." in out
    assert "their range" in out
    for trial in wide:
        kept = read_predictions(place / "runs/digits", state, trial.trial, "test", evaluation.predictions[trial.trial])
        assert len(kept) == 100
        assert kept.hits.mean() == pytest.approx(evaluation.metrics[trial.trial]["test/top1"])
    assert "<h2>Test evaluations</h2>" in (place / "runs/digits/report.html").read_text()


def test_another_evaluation_is_refused_with_what_the_first_one_gave(place, call):
    call("test", "digits")
    for words in (["digits"], ["digits/best"], ["digits.yaml"], ["digits", "--ensemble"]):
        code, out, err = call("test", *words)
        assert (code, out) == (2, "")
        assert "digits was evaluated on its test split once, last on" in err
        assert "say --again" in err
    assert len(evaluations(place)) == 1


def test_an_evaluation_that_was_cut_off_with_a_damaged_ledger_still_counts(place, call):
    call("test", "digits")
    newest = max((place / "runs/digits/ledger").glob("*.jsonl"))
    newest.chmod(0o644)
    newest.write_bytes(b"\n" + newest.read_bytes().partition(b"\n")[2])
    salvaged = str(salvage(place / "runs/digits"))
    assert salvaged.endswith("Cut off: 1 evaluation on test")
    assert evaluations(place) == []
    code, out, err = call("test", "digits")
    assert (code, out) == (2, "")
    assert "digits was evaluated on its test split once, last on" in err
    code, out, _ = call("test", "digits", "--again")
    assert (code, "evaluation 2 on the test split" in out) == (0, True)
    assert [(event.number, event.again) for event in evaluations(place)] == [(2, True)]


def test_again_is_recorded_with_its_number_and_another_config_too(place, call):
    call("test", "digits")
    narrow = next(t for t in load_state(place / "runs/digits").plan_trials() if t.values == {"model.hidden": 4})
    code, _, err = call("test", "digits", "--config", narrow.config[:6])
    assert (code, len(evaluations(place))) == (2, 1)
    code, out, err = call("test", "digits", "--config", narrow.config[:6], "--again")
    assert (code, err) == (0, "")
    assert "evaluation 2 on the test split" in out
    assert "2 (again)" in out
    assert "There were 2 evaluations" in out
    assert "selected on test, and optimistic" in out
    assert "Image by image on test" in out  # both configs of the contrast have predictions there now
    assert [(event.number, event.again) for event in evaluations(place)] == [(1, False), (2, True)]
    code, out, _ = call("report", "digits")
    assert "There were 2 evaluations" in out
    assert "Image by image on val" in out
    assert "Image by image on test" in out
    page = (place / "runs/digits/report.html").read_text()
    assert "Image by image on test" in page


def test_an_evaluation_of_other_results_of_the_experiment_counts(place, call):
    """--fresh gives new results, and the same test images."""
    call("test", "digits")
    shutil.copytree(place / "runs/digits", place / "runs/digits.2")
    for segment in sorted((place / "runs/digits.2/ledger").glob("*.jsonl"))[1:]:
        for file in (segment, segment.with_suffix(".seal.json")):  # the second results have no test evaluation
            file.chmod(0o644)
            file.unlink()
    assert evaluations(place, "digits.2") == []
    code, _, err = call("test", "digits.2")
    assert code == 2
    assert "evaluated on its test split once" in err
    assert call("test", "digits.2", "--again")[0] == 0
    assert evaluations(place, "digits.2")[0].number == 2
    code, out, _ = call("report", "digits.2")
    assert "There were 2 evaluations on the test split (100 images), 1 of them by these results." in out


def test_ensemble_and_soups_are_part_of_a_test_evaluation(place, call):
    code, out, _ = call("test", "digits", "--ensemble", "--soup")
    assert code == 0
    (evaluation,) = evaluations(place)
    assert {"ensemble", "uniform_soup", "greedy_soup"} <= set(evaluation.metrics)
    assert len(evaluation.members["ensemble"]) == len(evaluation.members["uniform_soup"]) == 2
    best = max(
        load_state(place / "runs/digits").trials[name].metrics["val/top1"] for name in evaluation.members["ensemble"]
    )
    assert evaluation.val["greedy_soup"]["val/top1"] >= best
    assert "ensemble of 2" in out
    assert "greedy soup of" in out
    assert sorted(path.name for path in (place / "runs/digits/combined").iterdir()) == [
        f"predictions-test-{name}.npz" for name in ("ensemble", "greedy_soup", "uniform_soup")
    ]


def test_views_are_part_of_a_test_evaluation(place, call):
    code, out, _ = call("test", "digits", "--augment", "flip", "--ensemble")
    assert code == 0
    (evaluation,) = evaluations(place)
    assert evaluation.views == "flip"
    assert "mean of 2 seeds, flip" in out
    assert "ensemble of 2, flip" in out


def test_show_measures_views_on_val_beside_the_image_alone(place, call):
    code, out, _ = call("show", "digits/best", "--augment", "flip")
    assert code == 0
    assert "averaged over views of each image: flip" in out
    assert out.count("(on the image alone: val/top1 ") == 2
    assert evaluations(place) == []
    code, _, err = call("show", "digits/best", "--augment", "scales=2")
    assert code == 2
    assert "--augment scales=2: the network does not take a view of 16x16 pixels" in err


def test_all_finished_trials_may_be_members(place, call):
    code, _, _ = call("test", "digits", "--ensemble", "--members", "all")
    assert code == 0
    (evaluation,) = evaluations(place)
    assert len(evaluation.members["ensemble"]) == 4
    assert len(evaluation.metrics) == 3  # the two seeds, and the ensemble: the other config's own numbers stay unseen


def test_show_measures_them_on_val_and_is_no_test_evaluation(place, call, monkeypatch):
    from expflow.data.streaming.loader import Loader

    opened, made = [], Loader.__init__

    def noted(self, config):
        opened.append(config.split)
        made(self, config)

    monkeypatch.setattr(Loader, "__init__", noted)
    code, out, _ = call("show", "digits/best", "--ensemble", "--soup")
    assert code == 0
    assert "ensemble of 2" in out
    assert "val/top1" in out
    assert "test" not in opened
    assert evaluations(place) == []


def test_a_trial_and_a_config_that_is_not_there_are_refused(place, call):
    trial = load_state(place / "runs/digits").plan_trials()[0].trial
    assert "--config says which" in call("test", f"digits/{trial[:4]}")[2]
    code, _, err = call("test", "digits", "--config", "zz")
    assert code == 2
    assert "names no config" in err
    assert "hidden=32" in err
    assert evaluations(place) == []


def test_while_a_driver_works_there_is_no_test_evaluation(place, call):
    from expflow.ledger import Ledger

    with Ledger.open(place / "runs/digits", load_state(place / "runs/digits").header):
        code, _, err = call("test", "digits")
    assert code == 3
    assert "another driver works on" in err
    assert evaluations(place) == []


def test_weights_that_are_not_the_recorded_ones_are_refused(place, call):
    state = load_state(place / "runs/digits")
    one, other = [trial for trial in state.plan_trials() if trial.values == {"model.hidden": 32}]
    theirs, mine = (trial_folder(place, trial.trial) / "checkpoints" for trial in (one, other))
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    code, _, err = call("test", "digits")
    assert code == 2
    assert "does not hold the weights that trial" in err
    shutil.rmtree(mine)
    code, _, err = call("test", "digits")
    assert code == 3
    assert "no whole checkpoint of its last step" in err
    assert evaluations(place) == []


def test_the_sweep_goes_on_after_a_test_evaluation_as_if_there_had_been_none(place, call):
    call("test", "digits")
    result = run_in_process(make_plan(place / "digits.yaml", storage=place / "runs"))
    assert result.ran == 0
    assert len(result.state.split_evaluations) == 1


PROGRAM = """
import os, signal, sys
sys.modules["ray"] = None  # it works where there is no Ray
from expflow import cli
from expflow.events import SplitEvaluated
from expflow.ledger import Ledger
import expflow.training.evaluation.evaluator  # once for both

append = Ledger.append

def killed_at(moment):
    def killed(self, event, **options):
        if isinstance(event, SplitEvaluated) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        record = append(self, event, **options)
        if isinstance(event, SplitEvaluated) and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return record
    return killed

for moment in ("before", "after"):
    if child := os.fork():
        print(os.waitpid(child, 0)[1])
    else:
        Ledger.append = killed_at(moment)
        cli.main(["test", "digits", "--storage", moment])
"""


def test_a_kill_around_the_record_neither_loses_a_test_evaluation_nor_invents_one(place, call):
    for moment in ("before", "after"):
        shutil.copytree(place / "runs", place / moment)
    died = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    # both were killed, and nothing had been shown
    assert died.stdout.split() == [str(signal.SIGKILL.value)] * 2, died.stderr

    def kept(moment):
        return load_state(place / moment / "digits").split_evaluations, list(
            (place / moment).glob("digits/trials/*/predictions-test.npz")
        )

    assert kept("before") == ([], [])
    (evaluation,), seen = kept("after")
    assert (evaluation.number, seen) == (1, [])  # it counts, and nothing lies there to be seen
    code, _, err = call("test", "digits", "--storage", "after")
    assert code == 2
    top1 = [row["test/top1"] for row in evaluation.metrics.values()]
    assert f"test/top1 {100 * sum(top1) / 2:.2f} %" in err  # and what it gave is known
    assert call("test", "digits", "--storage", "before")[0] == 0
    for moment in ("before", "after"):
        (evaluation,), seen = kept(moment)
        assert (evaluation.number, len(seen)) == (1, 2)
        folder = place / moment / "digits"
        assert all(
            read_predictions(folder, load_state(folder), name, "test", sha)
            for name, sha in evaluation.predictions.items()
        )


def test_the_final_model_is_tested_without_val(place, call):
    text = FILE.replace("epochs: 2}", "epochs: 2, fit_on: train+val}").replace("  space: {model.hidden: [4, 32]}\n", "")
    (place / "final.yaml").write_text(text.partition("report:")[0])
    run_in_process(make_plan(place / "final.yaml", storage=place / "runs"))
    code, _, err = call("test", "final", "--soup")
    assert (code, err) == (0, "")
    (evaluation,) = evaluations(place, "final")
    assert "uniform_soup" in evaluation.metrics
    assert "greedy_soup" not in evaluation.metrics  # there is no val to choose by
    assert evaluation.val == {}
    code, _, err = call("show", "final/best", "--confusion")
    assert code == 2


def test_a_search_by_val_cannot_train_on_val(place, call):
    (place / "bad.yaml").write_text(FILE.replace("epochs: 2}", "epochs: 2, fit_on: train+val}"))
    code, _, err = call("plan", "bad.yaml")
    assert code == 2
    assert "bad.yaml:6:30: trainer.fit_on: a search by val/top1 needs a val that nobody trains on" in err
    plateau = FILE.replace("trainer:", "schedule: plateau\ntrainer:").replace("  space: {model.hidden: [4, 32]}\n", "")
    (place / "bad.yaml").write_text(plateau.partition("report:")[0].replace("epochs: 2}", "fit_on: train+val}"))
    assert "the schedule watches val/loss" in call("plan", "bad.yaml")[2]
    stopping = FILE.replace("epochs: 2}", "fit_on: train+val, early_stopping: {}}")
    (place / "bad.yaml").write_text(stopping)
    assert "early_stopping watches val/loss" in call("plan", "bad.yaml")[2]


def test_pictures_are_kept_beside_the_trial_and_in_the_report(place, call):
    code, out, err = call("show", "digits/best", "--filters", "--confusion", "--worst", "--out", "pics")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (place / "pics").iterdir()) == ["confusion.png", "filters.png", "worst.png"]
    first = min(
        (t for t in load_state(place / "runs/digits").plan_trials() if t.values == {"model.hidden": 32}),
        key=lambda t: t.seed,
    )
    assert f"digits/{first.trial}" in out
    kept = trial_folder(place, first.trial) / "pictures"
    about = json.loads((kept / "about.json").read_text())
    assert sorted(about) == ["confusion", "filters", "worst"]
    page = (place / "runs/digits/report.html").read_text()
    assert "Pictures of trials" in page
    assert page.count('<img src="data:image/png;base64') == 3
    assert f"{kept.relative_to(place / 'runs/digits')}/confusion.png".replace("=", "%3D") in page
    again = call("show", f"digits/{first.trial}", "--filters")
    assert again[0] == 0
    assert sorted(json.loads((kept / "about.json").read_text())) == ["confusion", "filters", "worst"]


def test_pictures_of_lost_predictions_are_made_anew(place, call):
    first = load_state(place / "runs/digits").plan_trials()[0].trial
    path = trial_folder(place, first) / "predictions-val.npz"
    call("show", f"digits/{first}", "--confusion")
    before = (trial_folder(place, first) / "pictures/confusion.png").read_bytes()
    path.unlink()
    assert call("show", f"digits/{first}", "--confusion")[0] == 0
    assert (trial_folder(place, first) / "pictures/confusion.png").read_bytes() == before


def test_programs_get_the_report_of_an_evaluation_and_its_refusal(call, place, monkeypatch):
    monkeypatch.setattr("expflow.tracking.follower.catch_up", lambda folder, uri: True)
    code, out, _ = call("test", "digits", "--json")
    report = json.loads(out)
    jsonschema.Draft202012Validator(document_schema("report")).validate(report)
    (evaluation,) = report["tests"]
    assert (code, evaluation["number"]) == (0, 1)
    assert evaluation["outcomes"][0]["value"]["n"] == 2
    assert evaluation["outcomes"][0]["both"].startswith("[")
    assert report["best"]["score"] is not None
    assert "test" not in [step["action"] for step in report["next"]]
    code, out, err = call("test", "digits", "--json")
    error = json.loads(err)
    jsonschema.Draft202012Validator(document_schema("error")).validate(error)
    assert (code, out, error["error"]) == (2, "", "EvaluationRefused")
    assert len(evaluations(place)) == 1
