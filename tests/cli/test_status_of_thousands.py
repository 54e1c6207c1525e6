"""`status` of a sweep with more trials than a terminal shows lists the telling ones; programs get all."""

import json

import pytest

from expflow import cli
from expflow.cli.views.status import MOST_ROWS
from expflow.events import AttemptFailed, TrialEnded, TrialProposed, TrialStarted
from expflow.ledger import Header, Ledger

TRIALS = MOST_ROWS + 50


@pytest.fixture
def results(tmp_path):
    """The first trial failed; all others are done, in the order of their proposals."""
    with Ledger.open(tmp_path / "many", Header(name="many", text="", file="many.yaml", plan="p1")) as ledger:
        for number in range(TRIALS):
            trial = f"t{number:04d}"
            ledger.append(TrialProposed(trial, f"c{number}", 0, {"task.value": number}, {}), durable=False)
            ledger.append(TrialStarted(trial, 1, "gang-1"))
            if number == 0:
                ledger.append(AttemptFailed(trial, 1, "code", "ValueError: it is too small"))
            ledger.append(TrialEnded(trial, 1, "done" if number else "failed", 1, 1.0), durable=False)
    return tmp_path


def status(results, capsys, *words):
    with pytest.raises(SystemExit) as left:
        cli.main(["status", "many", "--storage", str(results), *words])
    assert not left.value.code
    return capsys.readouterr().out


def test_what_failed_and_the_newest_are_listed_and_the_rest_is_counted(results, capsys) -> None:
    out = status(results, capsys)
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("t0")]
    assert listed == ["t0000", *(f"t{number:04d}" for number in range(TRIALS - MOST_ROWS + 1, TRIALS))]
    assert "ValueError: it is too small" in out
    assert f"{MOST_ROWS} of {TRIALS} trials" in out
    assert f"`expflow status many --json --storage {results}` has all" in out
    assert f"many: {TRIALS - 1} done, 1 failed; not running now" in out


def test_programs_get_all(results, capsys) -> None:
    assert len(json.loads(status(results, capsys, "--json"))["trials"]) == TRIALS
