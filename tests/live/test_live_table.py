"""What a sweep shows while it runs: a pace that starts with the training, and lines that fit the terminal."""

from __future__ import annotations

import io

import pytest

from expflow.events import AttemptFailed, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import SweepState
from expflow.live import table
from expflow.live.console import LiteralConsole
from expflow.live.table import LiveTable


class Watched:
    """A live table of four trials on a console of ``width`` columns, and a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, width: int = 80, terminal: bool = False) -> None:
        self.now = 100.0
        monkeypatch.setattr(table.time, "monotonic", lambda: self.now)
        self.text = io.StringIO()
        self.console = LiteralConsole(file=self.text, width=width, force_terminal=terminal, color_system=None)
        self.progress = LiveTable(self.console, "val/top1", "max", 4)
        self.state = SweepState()

    def happen(self, *events) -> None:
        for event in events:
            self.state.apply(event, self.now)
            self.progress(event, self.state)

    def propose(self, count: int = 4) -> None:
        for number in range(count):
            values = {"model.depth": 56, "model.shortcut": "projection"}
            self.happen(TrialProposed(f"t{number}", f"c{number}", number, values, {}))

    def frame(self) -> str:
        with self.console.capture() as captured:
            self.console.print(self.progress._render())
        return captured.get()


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


def report(trial: str, progress: float, top1: float = 0.5) -> TrialReported:
    return TrialReported(trial, 1, 10, {"val/top1": top1}, progress)


def test_the_start_of_ray_is_no_pace(watched):
    watched.propose()
    watched.now += 20  # Ray starts, torch is imported
    watched.happen(TrialStarted("t0", 1, "gang-1"), report("t0", 0.25))
    assert watched.progress.time_left() is None
    watched.now += 2
    watched.happen(report("t0", 0.75))
    assert watched.progress.time_left() == pytest.approx(3.25 / 0.25)  # half a trial in 2 s, 3.25 trials left


def test_what_an_earlier_driver_did_is_no_pace_either(watched):
    watched.propose()
    watched.happen(TrialEnded("t0", 1, "done", 10, 1.0), TrialEnded("t1", 1, "done", 10, 1.0))
    watched.happen(TrialStarted("t2", 1, "gang-1"), report("t2", 0.5))
    watched.now += 5
    watched.happen(TrialEnded("t2", 1, "done", 20, 10.0))
    assert watched.progress.time_left() == pytest.approx(10.0)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_terminal(monkeypatch, width):
    watched = Watched(monkeypatch, width=width, terminal=True)
    watched.propose()
    assert "starting" in watched.frame()
    watched.happen(TrialStarted("t0", 1, "gang-1"), TrialStarted("t1", 1, "gang-2"), report("t0", 0.1))
    watched.now += 5000
    watched.happen(
        report("t0", 1.0), TrialEnded("t0", 1, "done", 10, 1.0), AttemptFailed("t1", 1, "code", "ValueError: no")
    )
    watched.happen(TrialEnded("t1", 1, "failed", 0, 1.0), TrialStarted("t2", 1, "gang-1"), report("t2", 0.5))
    lines = watched.frame().splitlines()
    assert len(lines) == 3
    assert "2/4 trials, 1 failed" in lines[0]
    assert "1h23m so far" in lines[0]
    assert lines[0].rstrip().endswith("left")
    assert lines[1].startswith("best so far: depth=56 shortcut=projection s0  val/top1 50.00 %")
    assert lines[2].split()[0] == "running"


def test_a_line_for_each_trial_that_ends(watched):
    watched.propose()
    watched.happen(report("t0", 1.0, 0.9874), TrialEnded("t0", 1, "done", 10, 0.93))
    watched.happen(AttemptFailed("t1", 1, "diverged", "the loss is [nan]"), TrialEnded("t1", 1, "failed", 10, 75))
    assert watched.text.getvalue().splitlines() == [
        "[1/4] done    val/top1  98.74 %   0.9s  depth=56 shortcut=projection s0",
        "failed  depth=56 shortcut=projection s1: diverged: the loss is [nan]",
    ]
