"""The conductor without Ray: what is proposed, recorded, decided and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.config.schema import Recipe
from expflow.errors import LedgerLocked
from expflow.events import Decided, Proposed, Reported, TrialEnded
from expflow.ledger import Ledger, SweepState, TrialState, load, read
from expflow.ledger.header import Header
from expflow.sweep.conductor import Conductor
from expflow.sweep.plan import PlannedTrial
from expflow.tasks.specs import Scripted

HEADER = Header(name="exp", text="", file="exp.yaml", plan="p1")


def planned(name: str, epochs: int = 10, seed: int = 0) -> PlannedTrial:
    recipe = Recipe(task=Scripted(name="scripted"))
    budget = {"trainer.epochs": epochs}
    return PlannedTrial(name, f"c{name}", seed, {"task.value": name}, recipe, {"value": name}, budget, None)


def proposals(*names: str, epochs: int = 10) -> Iterator[PlannedTrial]:
    return iter([planned(name, epochs) for name in names])


def message(kind: str, trial: str, **more: object) -> dict[str, object]:
    return {"kind": kind, "trial": trial, "attempt": 1, **more}


def started(trial: str) -> dict[str, object]:
    return message("started", trial, gang="gang-1")


def report(trial: str, step: int, value: float = 0.5) -> dict[str, object]:
    return message("report", trial, step=step, metrics={"val/top1": value}, progress=step / 10, seconds=float(step))


def ended(trial: str, status: str = "done") -> dict[str, object]:
    return message("ended", trial, status=status, step=10, seconds=3.0, weights="w")


class StopAt:
    """A scheduler that stops a trial at a step, and remembers what it was asked."""

    def __init__(self, step: int) -> None:
        self.step, self.asked = step, 0

    def decide(self, trial: TrialState, report: Reported) -> bool:
        self.asked += 1
        return report.step < self.step


def open_conductor(folder: Path, *names: str, header: Header = HEADER, epochs: int = 10, **more: object) -> Conductor:
    ledger = Ledger.open(folder, header)
    return Conductor(ledger, load(folder), proposals(*names, epochs=epochs), **more)


def close(conductor: Conductor) -> None:
    conductor._ledger.close("finished")


def test_proposals_are_recorded_in_call_order_and_each_trial_once(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a", "b", "a", "c")
    handed_out = []
    while (trial := conductor.propose()) is not None:
        handed_out.append(trial.trial)
    close(conductor)
    assert handed_out == ["a", "b", "c"]
    assert [r.body.trial for r in read(tmp_path) if isinstance(r.body, Proposed)] == ["a", "b", "c"]


def test_finished_trials_are_answered_from_the_ledger(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a", "b")
    conductor.propose()
    conductor.propose()
    conductor.take([started("a"), report("a", 1), ended("a")])
    conductor.take([started("b"), report("b", 1)])
    close(conductor)

    again = open_conductor(tmp_path, "a", "b")
    trial = again.propose()
    assert trial is not None
    assert trial.trial == "b"
    assert again.next_attempt("b") == 2
    assert again.propose() is None
    close(again)
    assert sum(isinstance(r.body, Proposed) for r in read(tmp_path)) == 2


def test_another_plan_makes_another_set_of_current_trials(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a", "b")
    for name in ("a", "b"):
        conductor.propose()
        conductor.take([started(name), ended(name)])
    close(conductor)
    edited = Header(name="exp", text="", file="exp.yaml", plan="p2")
    again = open_conductor(tmp_path, "b", "c", header=edited)
    trial = again.propose()
    assert trial is not None
    assert trial.trial == "c"
    close(again)
    assert list(load(tmp_path).current) == ["b", "c"]


def test_a_longer_budget_reopens_a_finished_trial(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a")
    conductor.propose()
    conductor.take([started("a"), ended("a")])
    close(conductor)
    same = open_conductor(tmp_path, "a")
    assert same.propose() is None
    close(same)
    longer = open_conductor(tmp_path, "a", epochs=20)
    assert longer.propose() is not None
    close(longer)
    assert load(tmp_path).trials["a"].status == "waiting"


@pytest.mark.parametrize(("retry", "expected"), [(False, None), (True, "a")])
def test_failed_trials_run_again_only_when_asked(tmp_path: Path, retry: bool, expected: str | None) -> None:
    conductor = open_conductor(tmp_path, "a")
    conductor.propose()
    failed = message("attempt_failed", "a", failure="code", message="boom", traceback="")
    conductor.take([started("a"), failed, ended("a", "failed")])
    close(conductor)
    again = open_conductor(tmp_path, "a", retry_failed=retry)
    trial = again.propose()
    assert (trial.trial if trial else None) == expected
    close(again)


def test_a_stop_is_written_before_it_is_told(tmp_path: Path) -> None:
    scheduler = StopAt(2)
    conductor = open_conductor(tmp_path, "a", scheduler=scheduler)
    conductor.propose()
    conductor.take([started("a"), report("a", 1)])
    assert conductor.judge([report("a", 1)])
    conductor.take([report("a", 2)])
    assert not conductor.judge([report("a", 2)])
    kinds = [type(r.body).__name__ for r in read(tmp_path)][-2:]
    assert kinds == ["Decided", "TrialEnded"]
    assert conductor.state.trials["a"].status == "stopped"
    conductor.take([ended("a", "stopped")])  # what the gang sends afterwards says nothing new
    close(conductor)
    assert sum(isinstance(r.body, TrialEnded) for r in read(tmp_path)) == 1


def test_a_recorded_stop_wins_over_what_the_scheduler_would_say_now(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a")
    conductor.propose()
    conductor.take([started("a"), report("a", 1)])
    conductor.record(Decided("a", 1, 1, "stop"))  # and killed right here
    close(conductor)
    scheduler = StopAt(99)
    again = open_conductor(tmp_path, "a", scheduler=scheduler)
    assert again.propose() is None
    assert again.state.trials["a"].status == "stopped"
    assert scheduler.asked == 0
    close(again)


def test_a_report_that_repeats_is_dropped(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a")
    conductor.propose()
    conductor.take([started("a"), report("a", 1), report("a", 1), report("a", 2)])
    close(conductor)
    assert [r.body.step for r in read(tmp_path) if isinstance(r.body, Reported)] == [1, 2]


def test_an_interrupted_sweep_proposes_nothing_more(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a", "b")
    conductor.propose()
    conductor.interrupted_by = 2
    assert conductor.propose() is None
    close(conductor)


def test_a_failing_observer_costs_no_event(tmp_path: Path) -> None:
    seen = []

    def bad(event: object, state: SweepState) -> None:
        raise RuntimeError("no")

    conductor = open_conductor(tmp_path, "a", observers=(bad, lambda event, state: seen.append(event)))
    conductor.propose()
    close(conductor)
    assert [type(event).__name__ for event in seen] == ["Proposed"]


def test_the_second_driver_is_refused(tmp_path: Path) -> None:
    conductor = open_conductor(tmp_path, "a")
    with pytest.raises(LedgerLocked, match="another driver"):
        Ledger.open(tmp_path, HEADER)
    close(conductor)
