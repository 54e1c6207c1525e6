"""Each config is diagnosed from its seeds' mean curves; the terminal shows findings alone, the page shows all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest

from expflow.ledger.state import SweepState, TrialState
from expflow.report import build_view, terminal_text, write_report
from expflow.report.curve_diagnosis import REMEDIES, curve_diagnoses
from expflow.training.evaluation.diagnosis import Kind
from tests.report.states import sweep, trial

NOWHERE = Path("no such folder")


def curves(config: int, seed: int, kind: str, *, epochs: int = 20, status: str = "done") -> TrialState:
    """A trial whose losses overfit, or fit well."""
    reports = []
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        fall, end = math.exp(-6 * share), 0.01 if kind == "overfitting" else 0.30
        train = end + (2.3 - end) * fall
        val = 0.5 + 1.8 * math.exp(-9 * share) + 0.6 * share**2 if kind == "overfitting" else 0.38 + 1.92 * fall
        reports.append(
            {
                "train/loss": train * (1 + 0.001 * seed),
                "val/loss": val * (1 + 0.001 * seed),
                "val/top1": 1 - 0.01 * config - 0.1 / epoch,
                "progress/epoch": float(epoch),
            }
        )
    return trial({"a": config}, seed, status, *reports)


def state(*trials: TrialState) -> SweepState:
    return sweep(list(trials), report={}, space=({"key": "a", "kind": "choice", "values": list(range(20))},))


def test_a_config_is_diagnosed_from_the_mean_of_its_completed_seeds():
    trials = [curves(0, seed, "overfitting") for seed in range(3)] + [curves(1, 0, "good_fit")]
    trials.append(curves(0, 3, "good_fit", status="stopped"))
    first, second = curve_diagnoses(state(*trials))
    assert (first.label, first.seeds, first.title, first.healthy) == ("a=0", 3, "overfitting", False)
    assert "while the training loss fell" in first.sentence
    assert first.help == REMEDIES["overfitting"]
    assert (second.label, second.kind, second.help, second.healthy) == ("a=1", "good_fit", "", True)


@pytest.mark.parametrize(("task", "kind"), [("classification", "underfitting"), ("autoencoder", "good_fit")])
def test_a_loss_that_names_no_classes_is_not_compared_with_guessing(task: str, kind: str) -> None:
    reports = [{"train/loss": 20 + 20 * 0.5**epoch, "val/loss": 20 + 20 * 0.5**epoch} for epoch in range(20)]
    trials = [trial({"a": 0}, 0, "done", *({**report, "val/top1": 0.5} for report in reports))]
    space = ({"key": "a", "kind": "choice", "values": [0]},)
    data = {"key": "k", "spec": {"classes": list("0123456789")}, "samples": {"val": 397}}
    (diagnosis,) = curve_diagnoses(sweep(trials, report={}, space=space, data=data, recipe={"task": {"name": task}}))
    assert diagnosis.kind == kind
    assert ("guessing" in diagnosis.sentence) == (kind == "underfitting")


def test_seeds_that_reported_other_epochs_are_averaged_where_all_did():
    (diagnosis,) = curve_diagnoses(state(curves(0, 0, "good_fit"), curves(0, 1, "good_fit", epochs=5)))
    assert diagnosis.seeds == 2
    assert diagnosis.kind == "too_short_to_tell"
    assert diagnosis.healthy


def test_without_losses_there_is_no_diagnosis():
    assert curve_diagnoses(state(trial({"a": 1}, 0, "done", {"val/top1": 0.5}))) == []
    assert curve_diagnoses(SweepState()) == []


def test_the_terminal_shows_findings_alone_and_at_most_ten():
    trials = [curves(config, 0, "overfitting" if config < 12 else "good_fit") for config in range(14)]
    text = terminal_text(build_view(NOWHERE, state(*trials)), width=10_000)
    assert text.count(": overfitting: ") == 10
    assert "… and 2 more" in text
    assert "good fit" not in text
    assert "Learning curves" not in terminal_text(build_view(NOWHERE, state(curves(1, 0, "good_fit"))))


def test_the_page_shows_every_config(tmp_path):
    trials = [curves(0, 0, "overfitting"), curves(1, 0, "good_fit")]
    page = write_report(tmp_path, state(*trials)).html.read_text()
    assert "What the curves show" in page
    for part in ("overfitting", "good fit", REMEDIES["overfitting"]):
        assert part in page


def test_every_kind_of_verdict_has_a_remedy():
    assert set(REMEDIES) == set(get_args(Kind))
