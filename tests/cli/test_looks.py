"""Looks at the test split as typed: counted, refused, asked for again; and that no kill loses or invents one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest

from expflow import cli
from expflow.ledger import load
from expflow.report.images import predictions_of
from expflow.sweep.alone import run_alone
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
        run_alone(make_plan(place / "digits.yaml", storage=place / "runs"))
    return place


@pytest.fixture
def place(swept, tmp_path, tmp_path_factory, monkeypatch):
    shutil.copytree(swept / "runs", tmp_path / "runs")
    shutil.copy(swept / "digits.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("expflow.cli.testing._tell_mlflow", lambda console, found: None)  # has a test of its own
    return tmp_path


@pytest.fixture
def call(place, capsys):
    def run(*words):
        try:
            cli.main([str(word) for word in words])
        except SystemExit as left:
            code = int(left.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def looks(place, name="digits"):
    return load(place / "runs" / name).looks


def trial_folder(place, trial):
    return next((place / "runs/digits/trials").glob(f"*-{trial}"))


def test_the_selected_config_is_evaluated_once_and_recorded(place, call):
    code, out, err = call("test", "digits")
    assert (code, err) == (0, "")
    (look,) = looks(place)
    state = load(place / "runs/digits")
    wide = [each for each in state.plan_trials() if each.values == {"model.hidden": 32}]
    assert (look.number, look.again, look.split, look.config) == (1, False, "test", wide[0].config)
    assert sorted(look.metrics) == sorted(each.trial for each in wide)
    assert look.data == state.header.data["manifest"]
    mean = sum(row["test/top1"] for row in look.metrics.values()) / 2
    assert f"{100 * mean:.2f} %" in out
    assert "There was 1 look at the test split (100 images)." in out
    assert "their range" in out
    for trial in wide:
        kept = predictions_of(place / "runs/digits", state, trial.trial, "test", look.predictions[trial.trial])
        assert len(kept) == 100
        assert kept.hits.mean() == pytest.approx(look.metrics[trial.trial]["test/top1"])
    assert "<h2>Test</h2>" in (place / "runs/digits/report.html").read_text()


def test_another_look_is_refused_with_what_the_first_one_gave(place, call):
    call("test", "digits")
    for words in (["digits"], ["digits/best"], ["digits.yaml"], ["digits", "--ensemble"]):
        code, out, err = call("test", *words)
        assert (code, out) == (2, "")
        assert "digits was looked at on its test split once, last on" in err
        assert "say --again" in err
    assert len(looks(place)) == 1


def test_again_is_recorded_with_its_number_and_another_config_too(place, call):
    call("test", "digits")
    narrow = next(t for t in load(place / "runs/digits").plan_trials() if t.values == {"model.hidden": 4})
    code, _, err = call("test", "digits", "--config", narrow.config[:6])
    assert (code, len(looks(place))) == (2, 1)
    code, out, err = call("test", "digits", "--config", narrow.config[:6], "--again")
    assert (code, err) == (0, "")
    assert "look 2 at the test split" in out
    assert "2 (again)" in out
    assert "There were 2 looks" in out
    assert "selected on test, and optimistic" in out
    assert "Image by image on test" in out  # both configs of the contrast have predictions there now
    assert [(each.number, each.again) for each in looks(place)] == [(1, False), (2, True)]
    code, out, _ = call("report", "digits")
    assert "There were 2 looks" in out
    assert "Image by image on val" in out
    assert "Image by image on test" in out
    page = (place / "runs/digits/report.html").read_text()
    assert "Image by image on test" in page


def test_a_look_of_other_results_of_the_experiment_counts(place, call):
    """--fresh gives new results, and the same test images."""
    call("test", "digits")
    shutil.copytree(place / "runs/digits", place / "runs/digits.2")
    for segment in sorted((place / "runs/digits.2/ledger").glob("*.jsonl"))[1:]:
        segment.chmod(0o644)
        segment.unlink()  # the second results have not looked
    assert looks(place, "digits.2") == []
    code, _, err = call("test", "digits.2")
    assert code == 2
    assert "looked at on its test split once" in err
    assert call("test", "digits.2", "--again")[0] == 0
    assert looks(place, "digits.2")[0].number == 2
    code, out, _ = call("report", "digits.2")
    assert "There were 2 looks at the test split (100 images), 1 of them by these results." in out


def test_ensemble_and_soups_are_part_of_a_look(place, call):
    code, out, _ = call("test", "digits", "--ensemble", "--soup")
    assert code == 0
    (look,) = looks(place)
    assert {"ensemble", "uniform_soup", "greedy_soup"} <= set(look.metrics)
    assert len(look.members["ensemble"]) == len(look.members["uniform_soup"]) == 2
    best = max(load(place / "runs/digits").trials[each].metrics["val/top1"] for each in look.members["ensemble"])
    assert look.val["greedy_soup"]["val/top1"] >= best
    assert "ensemble of 2" in out
    assert "greedy soup of" in out
    assert sorted(each.name for each in (place / "runs/digits/combined").iterdir()) == [
        f"predictions-test-{name}.npz" for name in ("ensemble", "greedy_soup", "uniform_soup")
    ]


def test_all_finished_trials_may_be_members(place, call):
    code, _, _ = call("test", "digits", "--ensemble", "--members", "all")
    assert code == 0
    (look,) = looks(place)
    assert len(look.members["ensemble"]) == 4
    assert len(look.metrics) == 3  # the two seeds, and the ensemble: the other config's own numbers stay unseen


def test_show_measures_them_on_val_and_is_no_look(place, call, monkeypatch):
    from expflow.data.loader import Loader

    opened, made = [], Loader.__init__

    def noted(self, root, split, **options):
        opened.append(split)
        made(self, root, split, **options)

    monkeypatch.setattr(Loader, "__init__", noted)
    code, out, _ = call("show", "digits/best", "--ensemble", "--soup")
    assert code == 0
    assert "ensemble of 2" in out
    assert "val/top1" in out
    assert "test" not in opened
    assert looks(place) == []


def test_a_trial_and_a_config_that_is_not_there_are_refused(place, call):
    trial = load(place / "runs/digits").plan_trials()[0].trial
    assert "--config says which" in call("test", f"digits/{trial[:4]}")[2]
    code, _, err = call("test", "digits", "--config", "zz")
    assert code == 2
    assert "names no config" in err
    assert "hidden=32" in err
    assert looks(place) == []


def test_while_a_driver_works_there_is_no_look(place, call):
    from expflow.ledger import Ledger

    with Ledger.open(place / "runs/digits", load(place / "runs/digits").header):
        code, _, err = call("test", "digits")
    assert code == 3
    assert "another driver works on" in err
    assert looks(place) == []


def test_weights_that_are_not_the_recorded_ones_are_refused(place, call):
    state = load(place / "runs/digits")
    one, other = [each for each in state.plan_trials() if each.values == {"model.hidden": 32}]
    theirs, mine = (trial_folder(place, each.trial) / "checkpoints" for each in (one, other))
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    code, _, err = call("test", "digits")
    assert code == 2
    assert "does not hold the weights that trial" in err
    shutil.rmtree(mine)
    code, _, err = call("test", "digits")
    assert code == 3
    assert "no whole checkpoint of its last step" in err
    assert looks(place) == []


def test_the_sweep_goes_on_after_a_look_as_if_there_had_been_none(place, call):
    call("test", "digits")
    result = run_alone(make_plan(place / "digits.yaml", storage=place / "runs"))
    assert result.ran == 0
    assert len(result.state.looks) == 1


PROGRAM = """
import os, signal, sys
sys.modules["ray"] = None  # it works where there is no Ray
from expflow import cli
from expflow.events import Looked
from expflow.ledger import Ledger
import expflow.training.protocol.evaluating  # once for both

append = Ledger.append

def killed_at(moment):
    def killed(self, event, **options):
        if isinstance(event, Looked) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        record = append(self, event, **options)
        if isinstance(event, Looked) and moment == "after":
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


def test_a_kill_around_the_record_neither_loses_a_look_nor_invents_one(place, call):
    for moment in ("before", "after"):
        shutil.copytree(place / "runs", place / moment)
    died = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    # both were killed, and nothing had been shown
    assert died.stdout.split() == [str(signal.SIGKILL.value)] * 2, died.stderr

    def kept(moment):
        return load(place / moment / "digits").looks, list(
            (place / moment).glob("digits/trials/*/predictions-test.npz")
        )

    assert kept("before") == ([], [])
    (look,), seen = kept("after")
    assert (look.number, seen) == (1, [])  # it counts, and nothing lies there to be seen
    code, _, err = call("test", "digits", "--storage", "after")
    assert code == 2
    top1 = [row["test/top1"] for row in look.metrics.values()]
    assert f"test/top1 {sum(top1) / 2:.4g}" in err  # and what it gave is known
    assert call("test", "digits", "--storage", "before")[0] == 0
    for moment in ("before", "after"):
        (look,), seen = kept(moment)
        assert (look.number, len(seen)) == (1, 2)
        folder = place / moment / "digits"
        assert all(predictions_of(folder, load(folder), each, "test", sha) for each, sha in look.predictions.items())


def test_the_final_model_is_tested_without_val(place, call):
    text = FILE.replace("epochs: 2}", "epochs: 2, fit_on: train+val}").replace("  space: {model.hidden: [4, 32]}\n", "")
    (place / "final.yaml").write_text(text.partition("report:")[0])
    run_alone(make_plan(place / "final.yaml", storage=place / "runs"))
    code, _, err = call("test", "final", "--soup")
    assert (code, err) == (0, "")
    (look,) = looks(place, "final")
    assert "uniform_soup" in look.metrics
    assert "greedy_soup" not in look.metrics  # there is no val to choose by
    assert look.val == {}
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
    assert sorted(each.name for each in (place / "pics").iterdir()) == ["confusion.png", "filters.png", "worst.png"]
    first = min(
        (t for t in load(place / "runs/digits").plan_trials() if t.values == {"model.hidden": 32}), key=lambda t: t.seed
    )
    assert f"digits/{first.trial}" in out
    kept = trial_folder(place, first.trial) / "pictures"
    about = json.loads((kept / "about.json").read_text())
    assert sorted(about) == ["confusion", "filters", "worst"]
    page = (place / "runs/digits/report.html").read_text()
    assert "A look inside" in page
    assert page.count("data:image/png;base64") == 3
    assert f"{kept.relative_to(place / 'runs/digits')}/confusion.png".replace("=", "%3D") in page
    again = call("show", f"digits/{first.trial}", "--filters")
    assert again[0] == 0
    assert sorted(json.loads((kept / "about.json").read_text())) == ["confusion", "filters", "worst"]


def test_pictures_of_lost_predictions_are_made_anew(place, call):
    first = load(place / "runs/digits").plan_trials()[0].trial
    path = trial_folder(place, first) / "predictions-val.npz"
    call("show", f"digits/{first}", "--confusion")
    before = (trial_folder(place, first) / "pictures/confusion.png").read_bytes()
    path.unlink()
    assert call("show", f"digits/{first}", "--confusion")[0] == 0
    assert (trial_folder(place, first) / "pictures/confusion.png").read_bytes() == before
