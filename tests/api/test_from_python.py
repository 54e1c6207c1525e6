"""expflow from Python: plans, trainings and sweeps as on the command line, results as tables."""

import json
import subprocess
import sys

import pytest

import expflow
from expflow.errors import AddressUnknown, ExperimentInvalid

DIGITS = {
    "data": {"name": "digits", "limit": 128},
    "model": "linear",
    "task": "classification",
    "optimizer": {"name": "sgd", "lr": 0.01},
    "trainer": {"epochs": 2},
    "sweep": {"space": {"optimizer.lr": [0.01, 0.1]}, "seeds": 2},
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rates.yaml"
    path.write_text(json.dumps(DIGITS))
    return path


def test_a_plan_is_a_table_of_trials(file):
    table = expflow.load(file).plan()
    assert list(table["optimizer.lr"]) == [0.01, 0.01, 0.1, 0.1]
    assert list(table["seed"]) == [0, 1, 0, 1]
    assert set(table["parameters"]) == {650}
    assert set(table["state"]) == {"new"}
    assert table["trial"].is_unique


def test_changes_are_what_set_says(file):
    assert len(expflow.load(file, {"sweep.seeds": 1}).plan()) == 2
    assert len(expflow.load(file, ["sweep.seeds=1", "sweep.space.optimizer.lr=[0.3]"]).plan()) == 1
    assert set(expflow.load(file, {"model": {"name": "two_layer", "hidden": 4}}).plan()["parameters"]) == {310}


def test_a_wrong_file_is_refused_at_once(file):
    with pytest.raises(ExperimentInvalid, match=r"optimizer\.lr: expected more than 0"):
        expflow.load(file, {"optimizer.lr": -1})
    with pytest.raises(AddressUnknown, match="no results of rates"):
        expflow.load(file).results()


def test_training_gives_tables(file):
    results = expflow.load(file).train(progress=False)
    (trial,) = results.trials.to_dict("records")
    assert trial["status"] == "done"
    assert trial["seed"] == 0
    assert list(results.reports["step"]) == sorted(results.reports["step"])
    assert results.reports["val/top1"].iloc[-1] == trial["val/top1"]
    assert results.exit_code == 0


CELLS = """
import asyncio, json
import expflow

async def cell():  # a notebook's cells run inside of an event loop
    return expflow.load("rates.yaml").sweep()

results = asyncio.run(cell())
again = expflow.load("rates.yaml")
states = set(again.plan()["state"])
repeated = again.sweep(progress=False)
print(json.dumps({
    "trials": results.trials.to_dict("records"),
    "leaderboard": results.leaderboard.to_dict("records"),
    "best": results.best,
    "report": results.report.exists(),
    "html": results._repr_html_(),
    "states": sorted(states),
    "same": repeated.trials.equals(results.trials),
}))
"""


@pytest.mark.timeout(330)
def test_a_sweep_inside_of_a_running_event_loop_as_in_a_notebook(file):
    done = subprocess.run([sys.executable, "-c", CELLS], cwd=file.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    assert any(line.startswith("[4/4] done") for line in shown)
    data = json.loads(last)
    assert [row["status"] for row in data["trials"]] == ["done"] * 4
    assert [(row["rank"], row["seeds"]) for row in data["leaderboard"]] == [(1, 2), (2, 2)]
    best = data["leaderboard"][0]
    assert data["best"] == {"optimizer.lr": best["optimizer.lr"]}
    scores = [row["val/top1"] for row in data["trials"] if row["config"] == best["config"]]
    assert best["val/top1"] == pytest.approx(sum(scores) / 2)
    assert data["report"]
    assert "<table" in data["html"]
    assert data["states"] == ["done"]
    assert data["same"]
    assert len(expflow.results("rates").trials) == len(expflow.results(str(file)).trials) == 4
