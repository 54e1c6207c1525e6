"""docs/writing_a_task.md: its example works as it stands, and a task written from it alone is one like ours."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from expflow import cli
from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.errors import Preempted
from expflow.events import Report
from expflow.ledger import load_state
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.training import Attempt, World, run_trial
from tests.rank_forks import run_forked_ranks
from tests.test_house import ROOT, blocks
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("rank_forks")]

PAGE = (ROOT / "docs" / "writing_a_task.md").read_text()
TURNS = """
data: {name: digits, batch_size: 32, limit: 256, last: drop}
model: {name: resnet, layout: cifar, depth: 8, width: 4, norm: layer}
task: {name: "turns:Turns", turns: 4}
optimizer: {name: adam, lr: 0.01}
schedule: one_cycle
trainer: {epochs: 3}
sweep:
  space: {task.label_noise: [0.0, 0.95]}
  seeds: 5
  metric: val/top1
report:
  contrasts:
    - {metric: val/top1, of: {task.label_noise: 0.0}, against: {task.label_noise: 0.95}, expect: higher}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder with the page's files and the user's in it."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "denoising.py").write_text(blocks(PAGE, "python")[0])
    (folder / "denoising.yaml").write_text(blocks(PAGE, "yaml")[0])
    shutil.copy(Path(__file__).with_name("own_task_code.py"), folder / "turns.py")
    (folder / "turns.yaml").write_text(TURNS)
    return folder


@pytest.fixture(autouse=True)
def within(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("EXPFLOW_CACHE", str(place / "cache"))
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    out, error = capsys.readouterr()
    assert not left.value.code, error
    return out


def trained(recipe: Recipe, place: Path, folder: Path, ranks: int = 1, leave_at: int | None = None) -> Any:
    """The outcome, and the last report's metrics without those of the machine."""
    reports, asked = list[Report](), iter(range(-1, 10_000))
    root = prepare(recipe.data, cache=place / "cache").root  # type: ignore[arg-type]
    run: Any = run_trial if ranks == 1 else run_forked_ranks
    outcome = run(
        Attempt(recipe, 0, root, folder),
        World(ranks=ranks),
        lambda report: reports.append(report) or True,
        on_notice=lambda notice: None,
        leave=lambda: next(asked) == leave_at,
    )
    return outcome, comparable(reports[-1].metrics)


def test_the_example_of_the_page_works_as_it_stands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "6 trials of 2 configs" in call(capsys, "plan", "denoising.yaml", "--no-time")
    plan = make_plan(Path("denoising.yaml"), ["trainer.epochs=1", "sweep.seeds=2"])
    run_in_process(plan)
    trials = load_state(plan.folder).plan_trials()
    errors = {(trial.values["task.noise"], trial.seed): trial.reports[-1].metrics for trial in trials}
    assert all(errors[0.1, seed]["val/l2"] < errors[0.3, seed]["val/l2"] for seed in (0, 1))
    assert len(list(plan.folder.rglob("artifacts/samples/*.png"))) == 4


def test_a_task_of_sixty_lines_gets_a_verdict_and_samples(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = (place / "turns.py").read_text()
    assert len([line for line in written.splitlines() if line.strip()]) <= 60
    run_in_process(make_plan(Path("turns.yaml")))
    states = load_state(place / "runs" / "turns").plan_trials()
    assert [trial.status for trial in states] == ["done"] * 10
    for trial in states:
        steps = {report.step: report.metrics["val/steps"] for report in trial.reports}
        assert steps == {8: 8.0, 16: 16.0, 24: 24.0}, "a step is a move of both optimizers"
    table = next(iter((place / "runs" / "turns").rglob("artifacts/samples/*.csv"))).read_text()
    assert table.startswith("turns,named\n")
    assert "As expected" in " ".join(call(capsys, "report", "turns").split())


def test_two_ranks_train_what_one_does(place: Path, tmp_path: Path) -> None:
    recipe = load(Path("turns.yaml"), ["trainer.epochs=1"]).experiment.recipe
    one, alone = trained(recipe, place, tmp_path / "one")
    two, together = trained(recipe, place, tmp_path / "two", ranks=2)
    assert one.step == two.step == 8
    for metric in ("train/loss", "val/top1", "val/steps"):
        assert together[metric] == pytest.approx(alone[metric], rel=0.01), metric


@pytest.mark.parametrize("question", [3, 11])
def test_a_training_that_was_cut_goes_on_bit_for_bit(place: Path, tmp_path: Path, question: int) -> None:
    recipe = load(Path("turns.yaml"), ["task.label_noise=0.3"]).experiment.recipe
    whole, expected = trained(recipe, place, tmp_path / "whole")
    with pytest.raises(Preempted):
        trained(recipe, place, tmp_path / "cut", leave_at=question)
    again, reported = trained(recipe, place, tmp_path / "cut")
    assert (again.weights, reported) == (whole.weights, expected)
