"""What earlier versions left behind stays valid: ids of recipes, ledgers, results folders.

``tests/golden/ids.json`` holds the ids of recipes, taken at commit f3d4b4a9. ``tests/golden/format1.tar.gz`` holds
three experiments and their results in ledger format 1; the text files hold what ``report`` and ``status`` printed of
them, with the figures that are drawn by default since: ``golden`` (digits, two configs, three seeds, contrasts, one
evaluation on the test split), ``population`` (population based training) and ``failing`` (a failed, a diverged and a
stopped trial).
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from expflow.config import load
from expflow.config.identity import config_id, trial_id
from expflow.data.prepare.prepared import data_key
from expflow.data.source_spec import ShardedSourceSpec
from expflow.ledger import load_state

GOLDEN = Path(__file__).with_name("golden")
IDS = json.loads((GOLDEN / "ids.json").read_text())
EXPERIMENTS = ("golden", "population", "failing")


@pytest.mark.parametrize("entry", IDS, ids=lambda entry: entry.get("experiment") or entry["recipe"].splitlines()[0])
def test_ids_of_recipes_stay(entry, tmp_path):
    file = Path(__file__).parents[1] / "experiments" / entry.get("experiment", "")
    if "recipe" in entry:
        file = tmp_path / "recipe.yaml"
        file.write_text(entry["recipe"])
    recipe = load(file).experiment.recipe
    config = config_id(recipe)
    data = data_key(recipe.data) if isinstance(recipe.data, ShardedSourceSpec) else "none"
    assert (config, data, trial_id(config, 0, data, "")) == (entry["config"], entry["data"], entry["trial"])


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder with the recorded experiments and results, as the working folder."""
    with tarfile.open(GOLDEN / "format1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expflow(*arguments):
    done = subprocess.run([sys.executable, "-m", "expflow", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_results_are_reported_with_the_same_answers(results, name):
    code, printed, error = expflow("report", name)
    assert code == 0, error
    assert printed == (GOLDEN / f"{name}.report.txt").read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_trial_is_listed_as_it_was(results, name):
    code, printed, error = expflow("status", name)
    assert code == 0, error
    assert printed == (GOLDEN / f"{name}.status.txt").read_text()


def test_what_is_finished_is_not_run_again(results):
    before = (results / "runs/golden/ledger/000001.jsonl").read_bytes()
    code, printed, error = expflow("sweep", "golden.yaml")
    assert code == 0, error
    assert "nothing was left to run" in printed + error
    assert (results / "runs/golden/ledger/000001.jsonl").read_bytes() == before


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_edited_sweep_goes_on_from_recorded_results(results):
    before = load_state(results / "runs/golden")
    file = results / "golden.yaml"
    file.write_text(file.read_text().replace("seeds: 3", "seeds: 4"))
    code, _, error = expflow("sweep", "golden.yaml")
    assert code == 0, error
    after = load_state(results / "runs/golden")
    assert len(after.trials) == len(before.trials) + 2
    for name, trial in before.trials.items():
        assert (after.trials[name].status, after.trials[name].reports) == (trial.status, trial.reports)


def test_a_second_evaluation_on_the_test_split_is_refused(results):
    code, _, error = expflow("test", "golden")
    assert code == 2
    assert "--again" in error
