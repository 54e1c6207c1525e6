"""Two ranks on this machine train what one would, and neither is left waiting for a dead one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from expflow.config import load
from expflow.config.resources import Resources
from expflow.config.schema import Recipe, Trainer
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.errors import Preempted, RankLost, TrialError, UserError
from expflow.events import Report
from expflow.tasks.specs import Action, ScriptedSpec
from expflow.training.contract import Attempt, Began, Notice, Outcome, Saved, World, run_trial
from expflow.training.local_ranks import local_world, run_local_ranks
from tests.rank_forks import ForkedRank, fork_rank, run_forked_ranks

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

EXACT = """
data: {name: digits, batch_size: 50, limit: 490}
model: {name: mlp, hidden: 32}
task: classification
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
schedule: constant
trainer: {epochs: 2}
"""


@dataclass
class Story:
    """What a trial said, and how to answer it."""

    go_on: Callable[[Report], bool] = lambda report: True
    leave: Callable[[], bool] = lambda: False
    reports: list[Report] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def run(self, attempt: Attempt, ranks: int, by: Any = run_local_ranks) -> Outcome:
        train: Any = run_trial if ranks == 1 else by
        outcome: Outcome = train(
            attempt, World(ranks=ranks), self.hear, on_notice=self.notices.append, leave=self.leave
        )
        return outcome

    def hear(self, report: Report) -> bool:
        self.reports.append(report)
        return self.go_on(report)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe without batch norm and augmentation, whose last batch (of 40) is short; and its data."""
    folder = tmp_path_factory.mktemp("exact")
    (folder / "exact.yaml").write_text(EXACT)
    data = prepare(DigitsSpec(name="digits"), cache=folder / "cache")
    return load(folder / "exact.yaml").experiment.recipe, data.root


def scripted(*actions: dict[str, Any]) -> Recipe:
    script = tuple(Action.model_validate(action) for action in actions)
    return Recipe(task=ScriptedSpec(name="scripted", script=script), trainer=Trainer(epochs=1))


REPORT = {"report": {"val/top1": 0.5}}


def test_two_ranks_train_what_one_does(exact: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, root = exact
    one, two = Story(), Story()
    one.run(Attempt(recipe, 0, root, tmp_path / "one"), 1)
    two.run(Attempt(recipe, 0, root, tmp_path / "two"), 2)
    assert [report.step for report in one.reports] == [report.step for report in two.reports]
    for single, double in zip(one.reports, two.reports, strict=True):
        assert single.metrics.keys() == double.metrics.keys()
        assert abs(single.metrics["val/top1"] - double.metrics["val/top1"]) <= 1 / 397 + 1e-9
        assert single.metrics["val/loss"] == pytest.approx(double.metrics["val/loss"], rel=1e-4)
        assert single.metrics["train/loss"] == pytest.approx(double.metrics["train/loss"], rel=1e-4)


def test_all_ranks_stop_at_the_report_that_is_answered_no(exact: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, root = exact
    story = Story(go_on=lambda report: False)
    outcome = story.run(Attempt(recipe, 0, root, tmp_path / "stopped"), 2, run_forked_ranks)
    assert outcome.stopped
    assert len(story.reports) == 1


def test_all_ranks_leave_together_with_one_checkpoint(exact: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, root = exact
    story = Story(leave=lambda: bool(story.notices))  # as soon as they have begun
    with pytest.raises(Preempted):
        story.run(Attempt(recipe, 0, root, tmp_path / "left"), 2, run_forked_ranks)
    again = Story()
    again.run(Attempt(recipe, 0, root, tmp_path / "left"), 2, run_forked_ranks)
    whole = Story()
    whole.run(Attempt(recipe, 0, root, tmp_path / "whole"), 2, run_forked_ranks)
    assert again.reports[-1].metrics["val/loss"] == whole.reports[-1].metrics["val/loss"]


def test_what_one_rank_raises_is_raised_with_its_traceback() -> None:
    with pytest.raises(TrialError, match="only here") as caught:
        Story().run(Attempt(scripted(REPORT, {"raise": "only here", "rank": 1}, REPORT, REPORT), 0), 2)
    assert "scripted.py" in "".join(caught.value.__notes__)


class Forks:
    """Starts a trial's ranks, and knows their process ids, in the order in which they were started."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def run(self, *arguments: Any, **named: Any) -> Outcome:
        return run_local_ranks(*arguments, **named, start_rank=self.start)

    def start(self, descriptor: int, environment: Mapping[str, str]) -> ForkedRank:
        rank = fork_rank(descriptor, environment)
        self.pids.append(rank.pid)
        return rank


@pytest.mark.parametrize(
    ("ranks", "number"), [([0], signal.SIGTERM), ([1], signal.SIGUSR1), ([0, 1], signal.SIGTERM), ([0], signal.SIGHUP)]
)
def test_ranks_that_are_told_to_leave_save_together(
    exact: tuple[Recipe, Path], tmp_path: Path, ranks: list[int], number: int
) -> None:
    """By a signal as a batch system sends it to one process or to all."""
    recipe, root = exact
    forks, notices = Forks(), list[Notice]()

    def on_notice(notice: Notice) -> None:
        notices.append(notice)
        if isinstance(notice, Began):
            for rank in ranks:
                os.kill(forks.pids[rank], number)

    attempt = Attempt(recipe, 0, root, tmp_path)
    with pytest.raises(Preempted, match="which is saved"):
        forks.run(attempt, World(ranks=2), lambda report: True, on_notice=on_notice, leave=lambda: False)
    assert any(isinstance(notice, Saved) for notice in notices)


def test_a_killed_rank_is_named_also_where_the_other_missed_it_first() -> None:
    forks = Forks()

    def kill(report: Report) -> bool:
        if report.step == 1:
            os.kill(forks.pids[1], signal.SIGKILL)
        return True

    with pytest.raises(RankLost, match="rank 1 was lost: killed by SIGKILL"):
        Story(go_on=kill).run(Attempt(scripted({**REPORT, "repeat": 50}), 0), 2, forks.run)


def test_a_rank_that_dies_ends_the_others_too() -> None:
    with pytest.raises(RankLost, match="exit code 7"):
        Story().run(Attempt(scripted(REPORT, {"exit": 7, "rank": 1}, {"hang": True}), 0), 2, run_forked_ranks)


def test_ranks_end_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves nothing behind that would go on reporting to nobody."""
    reader, writer = os.pipe()
    parent = os.posix_spawn(
        os.fspath(Path(os.sys.executable)),  # type: ignore[attr-defined]
        [os.sys.executable, "-m", "tests.training.killed_parent"],  # type: ignore[attr-defined]
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
    )
    os.close(writer)
    with os.fdopen(reader) as lines:
        ranks = [int(word) for word in lines.readline().split()]
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert lines.read() == ""  # returns when the last process that holds the pipe has ended
    assert len(ranks) == 2


def test_more_gpus_than_there_are_is_an_error_of_the_file() -> None:
    with pytest.raises(UserError, match="gpus_per_rank: 0"):
        local_world(Resources(ranks=64, gpus_per_rank=1.0))
    assert local_world(Resources(ranks=2)).gpus in (0, 1)
